"""`ensemble explain`: why an event has the score it has, from what the topics still hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from rich.table import Table


def explain(
    event: Annotated[str, typer.Argument(help="Its id, or topic/partition/offset.")],
    *,
    bundle: Annotated[
        Path | None, typer.Option(help="Another one.  [default: configuration]")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Explain a score: find the event, its predictions and its score, and decide it again."""
    import msgspec

    from cli import logs
    from cli.configuration import load_settings
    from cli.stopping import stop_event
    from registry.bundle import load_manifest
    from replay.explaining import explained

    logs.configure_command()
    settings = load_settings(config)
    loaded = load_manifest(bundle or Path(settings.ensemble.bundle))
    with stop_event() as stop:
        facts = explained(settings, loaded, event, stop).facts()
    if json:
        typer.echo(msgspec.json.encode(facts).decode())
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in _summary(facts):
        console.print(line)
    console.print(_table(facts["models"]))
    console.print(_latency(facts["latency"], facts["published"]["latency_ms"]))


def _summary(facts: dict[str, Any]) -> list[str]:
    scored, told = facts["published"], facts["again"].get("explanation")
    what = (
        f"[bold]{scored['source']}[/bold], id {scored['id']}: score {scored['score']:.6g}, "
        f"label {scored['label']}, by {scored['ensemble']}, fallback {scored['fallback']}"
    )
    lines = [what]
    if told is not None:
        facets = [
            f"{name} {told[name]:.3g}"
            for name in ("agreement", "dispersion", "entropy")
            if told.get(name) is not None
        ]
        consensus = {True: "all agree on the label", False: "they disagree on the label"}
        lines.append(", ".join([*facets, *filter(None, [consensus.get(told.get("consensus"))])]))
    if not facts["same"]:
        again = facts["again"]
        lines.append(
            f"[yellow]{again['ensemble']} decides otherwise with the same answers: score "
            f"{again['score']:.6g}, label {again['label']}; what follows is about that[/yellow]"
        )
    return lines


def _table(models: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("model", "said", "calibrated", "contribution", "without it", "sent after", ""):
        table.add_column(title, justify="left" if title in {"model", ""} else "right")
    for row in models:
        sent = row.get("sent_after_ms")
        table.add_row(
            row["model"],
            *(_number(row.get(name)) for name in ("said", "calibrated", "contribution", "without")),
            "" if sent is None else f"{sent} ms",
            row.get("refusal") or row["remark"],
        )
    return table


def _latency(found: dict[str, Any], total_ms: float) -> str:
    parts = [
        f"{name.removesuffix('_ms').replace('_', ' ')} {value:g}"
        for name, value in found.items()
        if name.endswith("_ms")
    ]
    of = f", waiting last for {found['model']}" if "model" in found else ""
    return f"latency {total_ms:g} ms{of}: {', '.join(parts)}"


def _number(value: Any) -> str:
    """A number, or the numbers of several classes."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name} {share:.3f}" for name, share in value.items())
    if isinstance(value, list | tuple):
        return " ".join(f"{share:.3f}" for share in value)
    return f"{value:.4f}"
