"""`ensemble replay`: decide a stretch of the past again, with this ensemble or with another one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from replay.bounds import Bound
    from replay.run import Result


FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        help="Where to begin: `beginning`, ISO 8601, -15m, or offsets such as 0:1200,1:1180.",
    ),
]
ToOption = Annotated[
    str, typer.Option("--to", help="Where to end, likewise; `end` is that of now.")
]
AsRecordedOption = Annotated[
    bool, typer.Option("--as-recorded", help="Count those models that were there in time then.")
]
RescoreOption = Annotated[
    bool, typer.Option("--rescore", help="Score the events anew with the bundle's models.")
]
BundleOption = Annotated[Path | None, typer.Option(help="Another one.  [default: configuration]")]
OutOption = Annotated[
    Path | None, typer.Option(help="Write the scores here, one JSON object a line.")
]
ToTopicOption = Annotated[
    str | None, typer.Option("--to-topic", help="Write the scores to this topic.")
]
CompareOption = Annotated[
    bool, typer.Option("--compare", help="Say how many decisions agree with those published.")
]
TickOption = Annotated[int, typer.Option(min=1, max=1000, help="Resolution of the virtual clock.")]


def replay(
    *,
    start: FromOption = "beginning",
    stop: ToOption = "end",
    as_recorded: AsRecordedOption = False,
    rescore: RescoreOption = False,
    bundle: BundleOption = None,
    out: OutOption = None,
    to_topic: ToTopicOption = None,
    compare: CompareOption = False,
    tick_ms: TickOption = 10,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Decide a stretch of the past again: nothing is committed, and nobody live notices."""
    import msgspec

    from cli import logs
    from cli.configuration import load_settings
    from cli.roles import allow_user_modules
    from cli.stopping import stop_event
    from lab.progress import bars
    from registry.bundle import load_manifest
    from replay.output import ScoreOutput
    from replay.run import Replay, Wanted

    logs.configure_command()
    settings = load_settings(config)
    if rescore:
        allow_user_modules(config)
    wanted = Wanted(
        _bound(start, "--from"),
        _bound(stop, "--to"),
        rescore=rescore,
        as_recorded=as_recorded,
        compare=compare,
        tick_ms=tick_ms,
    )
    loaded = load_manifest(bundle or Path(settings.ensemble.bundle))
    output = ScoreOutput(settings, out, to_topic)
    with stop_event() as asked, bars() as progress:

        def report(done: int, total: int) -> None:
            progress("events", done, total)

        result = Replay(settings, loaded, wanted, output, report, asked).run()
    output.close()
    facts = _facts(result)
    if asked.is_set():
        facts["ended_early"] = True
    typer.echo(msgspec.json.encode(facts).decode() if json else _table(facts))


def _bound(text: str, option: str) -> "Bound":
    from replay.bounds import bound_of
    from streams.clock import SystemClock

    try:
        return bound_of(text, SystemClock().wall_ms())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _facts(result: "Result") -> dict[str, Any]:
    """What a replay came to, as a JSON object; what did not happen is left out."""
    facts: dict[str, Any] = {
        "stretches": {
            f"{topic}/{partition}": [start, stop]
            for (topic, partition), (start, stop) in sorted(result.stretches.items())
        },
        "events": result.events,
        "scored": result.scored,
        "rungs": dict(sorted(result.rungs.items())),
        "dead_letters": dict(sorted(result.dead.items())),
        "bad_frames": {why: n for why, n in sorted(result.bad_frames.items()) if n},
        "answers_not_found": dict(sorted(result.not_found.items())),
        "events_without_record": result.without_record,
        "sha256": result.sha256,
        "seconds": round(result.took_s, 3),
        "events_per_s": round(result.events / max(result.took_s, 1e-9)),
    }
    if result.agreement is not None:
        facts["agreement"] = result.agreement.facts()
    optional = {"dead_letters", "bad_frames", "answers_not_found", "events_without_record"}
    return {name: value for name, value in facts.items() if value or name not in optional}


def _table(facts: dict[str, Any]) -> str:
    lines = []
    for name, value in facts.items():
        label = name.replace("_", " ")
        if name == "agreement":
            lines += ["", "held against what was published:"]
            lines += [f"  {what.replace('_', ' '):<20} {_said(n)}" for what, n in value.items()]
        elif isinstance(value, dict):
            said = ", ".join(f"{what} {_said(n)}" for what, n in value.items())
            lines.append(f"{label:<22} {said}")
        else:
            lines.append(f"{label:<22} {_said(value)}")
    return "\n".join(lines)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]}..{value[1]}"
    if isinstance(value, dict):
        return ", ".join(f"{what}: {n}" for what, n in value.items()) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
