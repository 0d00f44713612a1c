"""`ensemble produce`: the rows of a file as events, at a steady rate."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    import threading

    from streams.settings import Settings
    from streams.sink import Sink

Record = tuple[bytes | None, bytes | None]  # key, value

# The rate comes in ticks no shorter than this: a sleep costs some 60 µs.
_TICK_NS = 2_000_000
# Without a rate: enough for one call to be cheap, little enough to stop at once.
_BATCH = 5000
_FLUSH_S = 30.0
_JSON_LINES = (".jsonl", ".ndjson")


def produce(
    file: Annotated[Path, typer.Argument(help="CSV (gzip too), Parquet, or JSON lines.")],
    *,
    rate: Annotated[
        float, typer.Option(min=0, help="Events a second; 0 is as fast as possible.")
    ] = 1000,
    topic: Annotated[str | None, typer.Option(help="Where to.  [default: the first input]")] = None,
    key: Annotated[
        str | None,
        typer.Option(help="The column that becomes the record's key.  [default: entity, else id]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Send the rows of a file as events."""
    from cli import logs
    from cli.configuration import load_settings
    from cli.stopping import stop_event
    from streams.sink import Sink

    logs.configure_command()
    settings = load_settings(config)
    target = topic or settings.topics.inputs[0]
    supply = Supply(records_of(file, settings, key), limit, loop=loop)
    sink = Sink(settings.kafka)
    with stop_event() as stop, _progress(supply.left, quiet=json) as report:
        began_ns = time.monotonic_ns()
        sent = send(sink, target, supply, rate, stop, report)
        sink.flush(_FLUSH_S)
    took_s = (time.monotonic_ns() - began_ns) / 1e9
    if json:
        import msgspec

        found = {"topic": target, "events": sent, "seconds": round(took_s, 3)}
        typer.echo(msgspec.json.encode(found).decode())
    else:
        typer.echo(f"{sent:,} events in {took_s:.1f} s ({sent / took_s:,.0f}/s) to {target}")


class Supply:
    """Records to send: those there are, the first `limit` of them, or again and again.

    `left` is how many are still to come; None is without end.
    """

    def __init__(self, records: Sequence[Record], limit: int | None, *, loop: bool) -> None:
        assert records, "nothing to send"
        self._records = records
        self._next = 0
        whole = None if loop else len(records)
        self.left = min((n for n in (whole, limit) if n is not None), default=None)

    def take(self, count: int) -> list[Record]:
        """The next `count`, or as many as are left."""
        if self.left is not None:
            count = min(count, self.left)
            self.left -= count
        found: list[Record] = []
        while len(found) < count:
            part = self._records[self._next : self._next + count - len(found)]
            self._next = (self._next + len(part)) % len(self._records)
            found += part
        return found


def send(
    sink: "Sink",
    topic: str,
    supply: Supply,
    rate: float,
    stop: "threading.Event",
    report: Callable[[int], None],
) -> int:
    """Send the supply, `rate` records a second, until it ends or `stop`; how many were sent."""
    from cli.pacing import NS_PER_S, Pace
    from streams.sink import ANY_PARTITION

    pace = Pace(rate, time.monotonic_ns()) if rate else None
    sent = 0
    while supply.left != 0 and not stop.is_set():
        batch = supply.take(pace.due(time.monotonic_ns()) if pace is not None else _BATCH)
        if batch:
            sink.produce_batch(topic, ANY_PARTITION, batch)
            sent += len(batch)
            report(sent)
        sink.poll()
        if pace is not None and supply.left != 0:
            stop.wait(max(pace.wait_ns(time.monotonic_ns()), _TICK_NS) / NS_PER_S)
    return sent


def records_of(file: Path, settings: "Settings", key: str | None) -> Sequence[Record]:
    """The records of a file: events with their keys.

    Raises:
        DataError: the file cannot be read, or lacks a column.
        BundleError: the bundle, which says how columns are spelled in events, cannot be read.
    """
    if file.suffix.lower() in _JSON_LINES:
        return _json_lines(file, key or settings.event.entity or settings.event.id)
    from lab.table import events, read_table, texts
    from registry.bundle import load_manifest
    from streams.mapping import mapped_schema, path_of

    manifest = load_manifest(Path(settings.ensemble.bundle)).manifest
    table = read_table(file)
    event = settings.event
    # A column is called as its place in the event is, or as the last part of it.
    paths: dict[str, tuple[str, ...]] = {}
    for role in (event.time, event.entity, event.id):
        path = path_of(role)
        paths |= {name: path for name in (*path[-1:], role) if path and name in table.columns}
    schema = mapped_schema(manifest.schema, event)
    # The label is what an event of the real world does not have yet.
    values = events(table, schema, exclude={manifest.data.label} - {*schema.names}, paths=paths)
    named = path_of(event.entity or event.id)
    column = key or next((name for name, path in paths.items() if path == named), "")
    keys = (
        [text.encode() or None for text in texts(table, column)] if column else [None] * len(values)
    )
    return list(zip(keys, values, strict=True))


def _json_lines(file: Path, key: str) -> list[Record]:
    import msgspec

    from streams.errors import DataError
    from streams.mapping import path_of

    try:
        lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    if not lines:
        raise DataError(f"{file}: no lines")
    path = path_of(key)
    if not path:
        return [(None, line) for line in lines]
    records: list[Record] = []
    for line in lines:
        try:
            value = msgspec.json.decode(line)
            for part in path:
                value = value[part]
        except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
            # It may be meant to be bad: the dead letters want to be tried as well.
            value = None
        records.append((None if value is None else str(value).encode(), line))
    return records


@contextmanager
def _progress(total: int | None, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _sent: None
        return
    columns = (
        TextColumn("events"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=5) as display:
        task = display.add_task("events", total=total)
        yield lambda sent: display.update(task, completed=sent)
