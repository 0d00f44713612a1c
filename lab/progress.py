"""Progress of long work: a callback for those who work, a bar for those who watch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told by long work how far it is: `progress("models", 3, 30)`."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """`done` of `total` parts of a step are finished."""
        ...


def silent(step: str, done: int, total: int) -> None:
    """A `Progress` that nobody watches."""


@contextmanager
def bars() -> Iterator[Progress]:
    """A bar for each step on standard error; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as display:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = display.add_task(step)
            display.update(tasks[step], completed=done, total=total)

        yield show
