"""`ensemble dead-letters list | show | replay`: look at what could not be scored, and retry it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from replay.letters import Letter
    from streams.settings import Settings

app = typer.Typer(help="List dead letters, show one, and send events again.", no_args_is_help=True)

_MAX_MESSAGE_CHARS = 80

ErrorOption = Annotated[
    list[str] | None, typer.Option("--error", help="Only of this kind; may be repeated.")
]
PartitionOption = Annotated[
    int | None, typer.Option("--partition", min=0, help="Only events of this partition.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="Only letters written from then on: ISO 8601, or -15m, -2h, -1d."),
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only letters written before.")]
IdOption = Annotated[
    str | None,
    typer.Option("--id", help="Only of this event: topic/partition/offset, its key, or its id."),
]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which letters are wanted; None is any. Times are milliseconds since 1970."""

    errors: frozenset[str]
    partition: int | None
    since_ms: int | None
    until_ms: int | None
    id: str | None
    id_path: tuple[str, ...]

    def __call__(self, letter: "Letter") -> bool:
        """Whether a letter passes."""
        return (
            (not self.errors or letter.error in self.errors)
            and self.partition in {None, letter.source[1]}
            and (self.since_ms is None or letter.written_ms >= self.since_ms)
            and (self.until_ms is None or letter.written_ms < self.until_ms)
            and (self.id is None or self.id in self._names(letter))
        )

    def _names(self, letter: "Letter") -> set[str]:
        names = {letter.id, (letter.key or b"").decode("utf-8", "backslashreplace")}
        if self.id_path:
            names.add(_at(letter.value, self.id_path))
        return names


def _at(value: bytes | None, path: tuple[str, ...]) -> str:
    """The text at a path of what may be a JSON object; empty where there is none."""
    import msgspec

    try:
        found = msgspec.json.decode(value or b"")
        for part in path:
            found = found[part]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return ""
    return str(found)


def _filters(
    settings: "Settings",
    errors: list[str] | None,
    partition: int | None,
    since: str | None,
    until: str | None,
    id_: str | None,
) -> Filters:
    from replay.bounds import time_of
    from streams.clock import SystemClock
    from streams.mapping import path_of

    now_ms = SystemClock().wall_ms()
    times: list[int | None] = []
    for option, text in (("--since", since), ("--until", until)):
        try:
            times.append(None if text is None else time_of(text, now_ms))
        except (ValueError, OverflowError) as error:
            raise typer.BadParameter(
                f"got {text!r}, expected an ISO 8601 time, or a time ago such as -15m",
                param_hint=option,
            ) from error
    return Filters(
        frozenset(errors or ()), partition, times[0], times[1], id_, path_of(settings.event.id)
    )


@app.command("list")
def list_(
    *,
    error: ErrorOption = None,
    partition: PartitionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    id_: IdOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List dead letters, oldest first within a partition; `open` ones were not sent again yet."""
    settings = _settings(config)
    wanted = _filters(settings, error, partition, since, until, id_)
    _each(settings, wanted, _as_json if json else _line)


@app.command()
def show(
    source: Annotated[str, typer.Argument(help="The event, as topic/partition/offset.")],
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show the dead letters of one event in full; exit code 1 when there is none."""
    settings = _settings(config)
    found = _each(settings, lambda letter: letter.id == source, _whole_json if json else _whole)
    if not found:
        typer.echo(f"{source}: no dead letter", err=True)
        raise typer.Exit(1)


@app.command()
def replay(
    *,
    error: ErrorOption = None,
    partition: PartitionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    id_: IdOption = None,
    max_attempts: Annotated[
        int, typer.Option(min=1, help="Leave events that were sent again so often.")
    ] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Send the events of dead letters to their input topic again, each letter once."""
    import msgspec

    from cli.stopping import stop_event
    from lab.progress import bars
    from replay.resend import SENT, Desk

    settings = _settings(config)
    wanted = _filters(settings, error, partition, since, until, id_)
    done = 0

    with stop_event() as stop, Desk(settings) as desk, bars() as progress:

        def tell(fate: str, letter: "Letter") -> None:
            nonlocal done
            done += 1
            progress("dead letters", done, max(done, desk.open))
            if not json and (dry_run or fate not in {SENT, "done before"}):
                typer.echo(f"{_fate(fate, dry_run=dry_run)}: {_line('', letter)}")

        fates = desk.resend(wanted, max_attempts, tell=tell, dry_run=dry_run, stop=stop)
    if json:
        counts = {fate.replace(" ", "_"): count for fate, count in sorted(fates.items())}
        typer.echo(msgspec.json.encode({"dry_run": dry_run, **counts}).decode())
    else:
        counted = ", ".join(
            f"{count} {_fate(fate, dry_run=dry_run)}" for fate, count in sorted(fates.items())
        )
        typer.echo(counted or "no such letters")


def _fate(fate: str, *, dry_run: bool) -> str:
    explained = {
        "sent": "would be sent" if dry_run else "sent",
        "cut": "cut, so not sent",
        "given up": "tried often enough, so not sent",
        "no input": "of no input of this ensemble, so not sent",
    }
    return explained.get(fate, fate)


def _settings(config: Path) -> "Settings":
    from cli import logs
    from cli.configuration import load_settings

    logs.configure_command()
    return load_settings(config)


def _each(
    settings: "Settings",
    wanted: "Callable[[Letter], bool]",
    text: "Callable[[str, Letter], str]",
) -> int:
    """Print the letters that are wanted; how many."""
    from cli.stopping import stop_event
    from replay.resend import Desk

    found = 0
    with stop_event() as stop, Desk(settings) as desk:
        desk.look()
        for _, letter in desk.letters(stop=stop):
            if letter is not None and wanted(letter):
                typer.echo(text(_state(desk.is_done(letter), letter), letter))
                found += 1
    return found


def _state(done: bool, letter: "Letter") -> str:  # noqa: FBT001 -- one call
    return "sent" if done else "cut" if letter.cut_from is not None else "open"


def _line(state: str, letter: "Letter") -> str:
    message = letter.message
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[:_MAX_MESSAGE_CHARS] + "…"
    return (
        f"{_time(letter)}  {letter.id:<24} {letter.error:<15} {letter.attempts} "
        f"{state:<5}{_printable(message)}"
    )


def _facts(state: str, letter: "Letter") -> dict[str, Any]:
    return {
        "source": letter.id,
        "error": letter.error,
        "message": letter.message,
        "time": _time(letter),
        "ensemble": letter.ensemble,
        "attempts": letter.attempts,
        "state": state,
        "letter": f"{letter.place[0]}/{letter.place[1]}",
        "key": None if letter.key is None else _text(letter.key),
        "bytes": len(letter.value or b"") if letter.cut_from is None else letter.cut_from,
    }


def _as_json(state: str, letter: "Letter") -> str:
    import msgspec

    return msgspec.json.encode(_facts(state, letter)).decode()


def _whole_json(state: str, letter: "Letter") -> str:
    import msgspec

    whole = _facts(state, letter) | {
        "headers": [
            [name, None if value is None else _text(value)] for name, value in letter.headers
        ],
        "value": None if letter.value is None else _text(letter.value),
    }
    return msgspec.json.encode(whole).decode()


def _whole(state: str, letter: "Letter") -> str:
    lines = [f"{name + ':':<10} {value}" for name, value in _facts(state, letter).items()]
    lines += [f"{'header:':<10} {name} = {_text(value or b'')!r}" for name, value in letter.headers]
    value = "null" if letter.value is None else _printable(_text(letter.value))
    return "\n".join([*map(_printable, lines), f"{'value:':<10} {value}", ""])


def _time(letter: "Letter") -> str:
    import numpy as np

    from streams.instants import iso_from_wall_ms

    return iso_from_wall_ms(np.array([letter.written_ms]))[0]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    """Text from anywhere as one line that a terminal survives."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
