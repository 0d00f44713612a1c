"""`ensemble simulate`: the whole pipeline under seeded faults, judged from outside."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from cli.options import JsonOption

# More is nothing a person would read.
_SHOWN_VIOLATIONS = 20
_REFRESHES_PER_SECOND = 4
_TOGETHER = 1024  # schedules


def simulate(
    *,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many runs.")] = 300,
    start: Annotated[int, typer.Option("--start", min=0, help="The first seed.")] = 0,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Run this seed alone.", show_default=False),
    ] = None,
    schedules: Annotated[
        int | None,
        typer.Option(
            "--schedules",
            min=1,
            show_default=False,
            help="Instead: how many short schedules of the join alone.",
        ),
    ] = None,
    schedule: Annotated[
        int | None,
        typer.Option("--schedule", min=0, help="Run this schedule alone.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run the pipeline under random faults in virtual time; exit code 1 when a promise breaks.

    Each seed is one run: its own configuration, traffic and faults, the same ones each time. With
    --schedules only the combiner's join runs, with a crash here and there: less of everything, and
    hundreds of times as many.
    """
    if schedules is not None or schedule is not None:
        first, count = (start, schedules or 1) if schedule is None else (schedule, 1)
        _explore(first, count, json=json)
        return
    from simulation.checkers import rungs_of, violations
    from simulation.world import run_seed

    counts: Counter[str] = Counter()
    began = time.monotonic()
    wanted = range(start, start + seeds) if seed is None else range(seed, seed + 1)
    for number in _with_progress(wanted):
        run = run_seed(number)
        if problems := violations(run):
            _tell(number, problems)
            raise typer.Exit(1)
        counts += run.counts
        counts.update({f"rung: {rung}": count for rung, count in rungs_of(run).items()})
        counts[f"runs: {run.plan.delivery}"] += 1
    _sum_up("seed", "run", len(wanted), counts, time.monotonic() - began, json=json)


def _explore(first: int, count: int, *, json: bool) -> None:
    """Schedules of the join, a thousand at a time."""
    from simulation.schedules import explore

    counts: Counter[str] = Counter()
    began = time.monotonic()
    for start in _with_progress(range(first, first + count, _TOGETHER)):
        happened, broken = explore(start, min(_TOGETHER, first + count - start))
        counts += happened
        if broken is not None:
            number, problem = broken
            typer.echo(f"schedule {number} breaks a promise:\n  {problem}", err=True)
            typer.echo(f"again: ensemble simulate --schedule {number}", err=True)
            raise typer.Exit(1)
    _sum_up("schedule", "schedule", count, counts, time.monotonic() - began, json=json)


def _sum_up(
    key: str, noun: str, count: int, counts: Mapping[str, int], took_s: float, *, json: bool
) -> None:
    if json:
        import msgspec

        found = {f"{key}s": count, "seconds": round(took_s, 3), "counts": dict(counts)}
        typer.echo(msgspec.json.encode(found).decode())
        return
    _print(counts)
    s = "s" if count > 1 else ""
    typer.echo(
        f"{count:,} {noun}{s} in {took_s:.1f} s, {count / took_s * 60:,.0f} a minute: "
        "every promise held"
    )


def _with_progress(wanted: range) -> Iterator[int]:
    """The seeds, with a bar where somebody watches."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(
        track(
            wanted, "simulating", console=console, transient=True,
            disable=not console.is_terminal, refresh_per_second=_REFRESHES_PER_SECOND,
        )
    )  # fmt: skip


def _tell(seed: int, problems: list[str]) -> None:
    typer.echo(f"seed {seed} breaks a promise:", err=True)
    for problem in problems[:_SHOWN_VIOLATIONS]:
        typer.echo(f"  {problem}", err=True)
    if len(problems) > _SHOWN_VIOLATIONS:
        typer.echo(f"  … and {len(problems) - _SHOWN_VIOLATIONS} more", err=True)
    typer.echo(f"again: ensemble simulate --seed {seed}", err=True)


def _print(counts: Mapping[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what happened", "times", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for name, count in sorted(counts.items()):
        if count:
            table.add_row(name, f"{count:,}")
    Console().print(table)
