"""`python -m chaos`: break the system on purpose, and say what came of it."""

import gc
import json
import random
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from chaos.goals import find_goals
from chaos.goals.goal import Goal, Result
from chaos.storm import examples, raise_storm, rows_of

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

LOGS = Path(tempfile.gettempdir()) / "chaos-logs"


@app.callback()
def prepare() -> None:
    """Faults on purpose, on real processes, a real broker and a real Redis."""
    # A collection over a million outcomes would stop this process for a second, and look like a
    # gap of the system under test.
    gc.disable()


@app.command()
def goals(
    numbers: Annotated[list[str] | None, typer.Argument(help="Which; all without any.")] = None,
    count: Annotated[int, typer.Option(help="How often; 0 is each goal's own number.")] = 0,
    form: Annotated[
        Literal["table", "json", "markdown"], typer.Option("--format", help="What to print.")
    ] = "table",
) -> None:
    """Measure goals one after the other; exit code 1 if one is not held."""
    known = find_goals()
    strange = [number for number in numbers or () if number not in known]
    if strange:
        raise typer.BadParameter(f"no goal {strange[0]}; expected some of {', '.join(known)}")
    results: dict[str, Result] = {}
    for number in numbers or known:
        goal = known[number]
        typer.echo(f"{number}: {goal.done} ({count or goal.count}x)", err=True)
        results[number] = _measured(goal, count or goal.count)
        typer.echo(f"   {results[number].text} {results[number].note}", err=True)
    if form == "json":
        typer.echo(json.dumps({number: asdict(result) for number, result in results.items()}))
    elif form == "markdown":
        typer.echo(_markdown(known, results))
    else:
        Console().print(_table(known, results))
    raise typer.Exit(0 if all(result.held for result in results.values()) else 1)


@app.command()
def storm(
    seconds: Annotated[float, typer.Option(min=1, help="How long things are broken.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Of the order of faults; -1 draws one.")] = -1,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 1000.0,
    logs: Annotated[
        Path, typer.Option(help="Where the logs of a storm go that was not survived.")
    ] = LOGS,
) -> None:
    """Every kind of fault in random order; exit code 1 unless each event has one right outcome."""
    chosen = seed if seed >= 0 else random.SystemRandom().randrange(1_000_000)
    began_s = 0.0

    def tell(name: str) -> None:
        nonlocal began_s
        began_s = began_s or time.monotonic()
        typer.echo(f"{time.monotonic() - began_s:6.1f} s  {name}", err=True)

    directory = logs / f"{chosen}"
    found = raise_storm(seconds, chosen, rate, tell, logs=directory)
    table = Table(f"storm of seed {chosen}", "", box=None)
    for row in rows_of(found):
        table.add_row(*row)
    Console(width=100).print(table)
    if found.complaint:
        typer.echo(found.complaint, err=True)
    for line in examples(found):
        typer.echo(line, err=True)
    if not found.survived:
        typer.echo(f"not survived; the logs are in {directory}", err=True)
    raise typer.Exit(0 if found.survived else 1)


def _measured(goal: Goal, count: int) -> Result:
    try:
        return goal.measure(count)
    except Exception as error:  # noqa: BLE001 -- the other goals are still to be measured
        traceback.print_exc()
        return Result({}, held=False, note=f"{type(error).__name__}: {str(error)[:300]}")
    finally:
        gc.collect()


def _rows(known: dict[str, Goal], results: dict[str, Result]) -> list[tuple[str, ...]]:
    return [
        (
            number,
            known[number].done,
            known[number].aim,
            result.text + (f" ({result.note})" if result.note else ""),
            "yes" if result.held else "no",
        )
        for number, result in results.items()
    ]


HEADS = ("row", "what is done", "to be reached", "measured", "held")


def _table(known: dict[str, Goal], results: dict[str, Result]) -> Table:
    table = Table(*HEADS)
    for row in _rows(known, results):
        table.add_row(*row)
    return table


def _markdown(known: dict[str, Goal], results: dict[str, Result]) -> str:
    lines = [HEADS, ("---",) * len(HEADS), *_rows(known, results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    app()
