"""`ensemble get`: the latest score of an entity."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from cache.latest import Latest

# A person can wait longer than the scoring path.
_TIMEOUT_MS = 2000


def get(
    key: Annotated[str, typer.Argument(help="The entity, as in the events.")],
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Print the latest score of an entity from the cache; exit code 1 when there is none."""
    import msgspec
    import numpy as np

    from cache import keys
    from cache.latest import decode_latest
    from cache.opening import MEMORY_URL, open_store
    from cli import logs
    from cli.configuration import load_settings
    from streams.clock import SystemClock
    from streams.errors import ConfigurationError
    from streams.instants import iso_from_wall_ms

    logs.configure_command()
    settings = load_settings(config)
    url = settings.cache.url.get_secret_value()
    if url == MEMORY_URL:
        raise ConfigurationError(
            "cache.url", "memory:// is inside each process and cannot be asked; expected a Redis"
        )
    clock = SystemClock()
    store = open_store(url, timeout_ms=_TIMEOUT_MS, max_entries=1, clock=clock)
    try:
        [value] = store.get_many([keys.latest(settings.ensemble.name, key)])
    finally:
        store.close()
    latest = decode_latest(value)
    if latest is None:
        typer.echo("null" if json else f"{key}: no score (never seen, or forgotten)")
        raise typer.Exit(1)
    event_time, scored_at = iso_from_wall_ms(np.array([latest.event_time_ms, latest.scored_at_ms]))
    age_ms = latest.age_ms(clock.wall_ms())
    score, label, shares = _shown(latest)
    if json:
        found = {
            "entity": key,
            "id": latest.event_id,
            "score": score,
            "label": label,
            "ensemble": latest.ensemble,
            "event_time": event_time,
            "scored_at": scored_at,
            "age_ms": age_ms,
            **({"scores": shares} if shares else {}),
        }
        typer.echo(msgspec.json.encode(found).decode())
    else:
        typer.echo(
            f"{key}: score {score:.4f}, label {label}, event {latest.event_id} "
            f"of {event_time}, {age_ms / 1000:.1f} s ago by {latest.ensemble}"
        )


def _shown(latest: "Latest") -> tuple[float, int | str | None, dict[str, float]]:
    """Score and label as a scored record has them, and the probabilities of several classes."""
    from cache.latest import NO_LABEL, LatestScore

    if isinstance(latest, LatestScore):
        return latest.score, None if latest.label == NO_LABEL else latest.label, {}
    return latest.scores[latest.label], latest.label, latest.scores
