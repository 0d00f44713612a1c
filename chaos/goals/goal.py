"""One goal: what is done, what is to be reached, and how it is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chaos.stage import Report

Figure = float | int | str


@dataclass(frozen=True, slots=True)
class Result:
    """What came out.

    Attributes:
        measured: name with unit → figure, in the order to be shown.
        held: whether the goal is reached.
        note: what one should know about the figures; empty if nothing.
    """

    measured: Mapping[str, Figure]
    held: bool
    note: str = ""

    @classmethod
    def of(cls, report: Report, held: bool, note: str = "", /, **figures: Figure) -> "Result":  # noqa: FBT001 -- what it is about
        """The counts of a report, and further figures behind them."""
        wrong = report.after if report.during.clean else report.during
        counts: dict[str, Figure] = {
            "events": report.events,
            "lost": len(wrong.lost),
            "duplicates": len(wrong.duplicates) + len(wrong.contradictory),
        }
        disordered = len(wrong.disordered) + len(wrong.strange)
        if disordered:
            counts["out of order or unknown"] = disordered
        return cls({**counts, **figures}, held and report.clean, note)

    @property
    def text(self) -> str:
        """The figures on one line.

        >>> Result({"events": 12000, "gap_s": 0.5}, True).text
        'events 12,000; gap_s 0.5'
        """
        return "; ".join(f"{name} {_shown(value)}" for name, value in self.measured.items())


def _shown(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Goal:
    """A row of the table of goals.

    Attributes:
        number: of the row, as text.
        done: what is done to the system.
        aim: what is to be reached, in words.
        count: how often by default.
        measure: does it so often, and says what came out.
    """

    number: str
    done: str
    aim: str
    count: int
    measure: Callable[[int], Result]


def goal(
    number: str, done: str, aim: str, *, count: int
) -> Callable[[Callable[[int], Result]], Goal]:
    """Make a goal of a function that takes how often, and returns a `Result`."""

    def made(measure: Callable[[int], Result]) -> Goal:
        return Goal(number, done, aim, count, measure)

    return made
