"""`ensemble simulate`: the whole pipeline under seeded faults, judged from outside."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Annotated

import typer

from cli.options import JsonOption

# More is nothing a person would read.
_SHOWN_VIOLATIONS = 20
_REFRESHES_PER_SECOND = 4
_TOGETHER = 1024  # schedules
_RUNS_TOGETHER = 8

# What happened, and the first number that broke a promise, with how.
_Found = tuple[Mapping[str, int], tuple[int, Sequence[str]] | None]


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
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that share them.")] = 1,
    json: JsonOption = False,
) -> None:
    """Run the pipeline under random faults in virtual time; exit code 1 when a promise breaks.

    Each seed is one run: its own configuration, traffic and faults, the same ones each time. With
    --schedules only the combiner's join runs, with a crash here and there: less of everything, and
    hundreds of times as many.
    """
    if schedules is not None or schedule is not None:
        noun, together = "schedule", _TOGETHER
        first, count = (start, schedules or 1) if schedule is None else (schedule, 1)
    else:
        noun, together = "seed", _RUNS_TOGETHER
        first, count = (start, seeds) if seed is None else (seed, 1)
    stop = first + count
    parts = [range(at, min(at + together, stop)) for at in range(first, stop, together)]
    counts: Counter[str] = Counter()
    began = time.monotonic()
    found = _worked_out(_WORK[noun], parts, min(jobs, len(parts)))
    for happened, broken in _with_progress(found, len(parts)):
        counts += Counter(happened)
        if broken is not None:
            _tell(noun, *broken)
            raise typer.Exit(1)
    _sum_up(noun, count, counts, time.monotonic() - began, json=json)


def _simulated(seeds: range) -> _Found:
    """Runs of the whole pipeline."""
    from simulation.checkers import rungs_of, violations
    from simulation.world import run_seed

    counts: Counter[str] = Counter()
    for number in seeds:
        run = run_seed(number)
        if problems := violations(run):
            return counts, (number, problems)
        counts += run.counts
        counts.update({f"rung: {rung}": count for rung, count in rungs_of(run).items()})
        counts[f"runs: {run.plan.delivery}"] += 1
    return counts, None


def _explored(schedules: range) -> _Found:
    """Schedules of the join."""
    from simulation.schedules import explore

    happened, broken = explore(schedules.start, len(schedules))
    return happened, None if broken is None else (broken[0], [broken[1]])


_WORK: Mapping[str, Callable[[range], _Found]] = {"seed": _simulated, "schedule": _explored}


def _worked_out(
    work: Callable[[range], _Found], parts: Sequence[range], jobs: int
) -> Iterator[_Found]:
    """What came of each part, in their order: so the first number that breaks is told first."""
    if jobs == 1:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(jobs, get_context("forkserver"), _end_with_parent) as pool:
        try:
            yield from pool.map(work, parts)
            # What the pool has of the system is given back by its thread.
            pool.shutdown()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """A process of a pool whose owner was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _sum_up(noun: str, count: int, counts: Mapping[str, int], took_s: float, *, json: bool) -> None:
    if json:
        import msgspec

        found = {f"{noun}s": count, "seconds": round(took_s, 3), "counts": dict(counts)}
        typer.echo(msgspec.json.encode(found).decode())
        return
    _print(counts)
    ran = "run" if noun == "seed" else noun
    s = "s" if count > 1 else ""
    typer.echo(
        f"{count:,} {ran}{s} in {took_s:.1f} s, {count / took_s * 60:,.0f} a minute: "
        "every promise held"
    )


def _with_progress(found: Iterable[_Found], parts: int) -> Iterator[_Found]:
    """With a bar where somebody watches."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(
        track(
            found, "simulating", total=parts, console=console, transient=True,
            disable=not console.is_terminal, refresh_per_second=_REFRESHES_PER_SECOND,
        )
    )  # fmt: skip


def _tell(noun: str, number: int, problems: Sequence[str]) -> None:
    typer.echo(f"{noun} {number} breaks a promise:", err=True)
    for problem in problems[:_SHOWN_VIOLATIONS]:
        typer.echo(f"  {problem}", err=True)
    if len(problems) > _SHOWN_VIOLATIONS:
        typer.echo(f"  … and {len(problems) - _SHOWN_VIOLATIONS} more", err=True)
    typer.echo(f"again: ensemble simulate --{noun} {number}", err=True)


def _print(counts: Mapping[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("what happened", "times", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for name, count in sorted(counts.items()):
        if count:
            table.add_row(name, f"{count:,}")
    Console().print(table)
