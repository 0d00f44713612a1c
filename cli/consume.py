"""`ensemble consume`: what comes out, readable."""

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from confluent_kafka import Message

_MAX_VALUE_CHARS = 200


def consume(
    *,
    topic: Annotated[str | None, typer.Option(help="Which one.  [default: scored]")] = None,
    count: Annotated[int | None, typer.Option("-n", min=1, help="Stop after so many.")] = None,
    start: Annotated[
        str, typer.Option("--from", help="Where to begin: `beginning` or `end`.")
    ] = "beginning",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more; `--from end` does it anyway.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Print scored records, or the records of another topic, one a line."""
    from cli import logs
    from cli.configuration import load_settings
    from cli.stopping import stop_event
    from streams.reader import TopicReader

    if start not in {"beginning", "end"}:
        raise typer.BadParameter(f"got {start!r}, expected beginning or end", param_hint="--from")
    logs.configure_command()
    settings = load_settings(config)
    name = topic or settings.topics.scored
    line = (
        raw_line if json else readable(name, settings.topics.scored, settings.topics.dead_letters)
    )
    printed = 0
    with (
        stop_event() as stop,
        TopicReader(settings.kafka, name, "end" if start == "end" else "beginning") as reader,
    ):
        for messages in reader.batches(stop, follow=follow or start == "end"):
            rest = messages if count is None else messages[: count - printed]
            typer.echo("\n".join(map(line, rest)))
            printed += len(rest)
            if printed == count:
                break


def readable(topic: str, scored: str, dead_letters: str) -> Any:
    """The function that makes a line of a record of that topic."""
    return {scored: scored_line, dead_letters: dead_letter_line}.get(topic, any_line)


def raw_line(message: "Message") -> str:
    """The value as it is."""
    return _text(message.value())


def any_line(message: "Message") -> str:
    """Where it is, its key, its value."""
    value = _text(message.value())
    cut = value if len(value) <= _MAX_VALUE_CHARS else value[:_MAX_VALUE_CHARS] + "…"
    return f"{_place(message)}  {_text(message.key())}  {cut}"


def scored_line(message: "Message") -> str:
    """Id, score, label, confidence, what it had to do without, how long it took."""
    import msgspec

    from streams.records import ScoredRecord

    try:
        record = msgspec.json.decode(message.value() or b"", type=ScoredRecord)
    except msgspec.DecodeError as error:
        return f"{any_line(message)}  (no scored record: {error})"
    missing = "".join(f"  {model}: {why}" for model, why in record.missing.items())
    missing += "".join(f"  {model}: not asked" for model in record.not_asked)
    return (
        f"{record.id:<24} {record.score:.4f}  {record.label}  {record.confidence:4.0%}  "
        f"{record.fallback:<8}{record.latency_ms:8.1f} ms{missing}"
    )


def dead_letter_line(message: "Message") -> str:
    """Where the event was, what was wrong with it, and how it begins."""
    from streams.records import Headers

    found = cast("list[tuple[str, str | bytes | None]]", message.headers() or [])
    headers = {name: _text(value) for name, value in found}
    origin = "/".join(
        headers.get(name, "?") for name in (Headers.TOPIC, Headers.PARTITION, Headers.OFFSET)
    )
    value = _text(message.value())
    cut = value if len(value) <= _MAX_VALUE_CHARS else value[:_MAX_VALUE_CHARS] + "…"
    return (
        f"{origin}  {headers.get(Headers.CLASS, '?')}: {headers.get(Headers.MESSAGE, '?')}  {cut!r}"
    )


def _place(message: "Message") -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def _text(value: str | bytes | None) -> str:
    """Bytes from anywhere as text that a terminal survives."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value or "")
