"""What combiners did, for the judges: nothing in here is read by what is simulated.

A *tenure* is the time from the moment a combiner opened a partition until it forgot it, be it
for a crash, a rebalance or a failed transaction.
"""

from dataclasses import dataclass, field

from streams.columns import Place, Position


@dataclass(slots=True)
class Tenure:
    """One combiner's time with one input partition, in true nanoseconds.

    Attributes:
        number: its name in the log.
        combiner: whose.
        place: the partition.
        backlog_below: events below this offset are backlog; back-pressure raises it.
        began: the committed position from which it read, with what stood beside it.
        seen: for each event when it was read, and whether it was backlog.
        left: for each event when it was decided, and up to which record `predictions` were read.
        reads: of `predictions`: when, from which offset, up to which.
        asked: for each event when heavy models were asked about it.
    """

    number: int
    combiner: str
    place: Place
    backlog_below: int
    began: Position = field(default_factory=lambda: Position(0))
    seen: dict[int, tuple[int, bool]] = field(default_factory=dict)
    left: dict[int, tuple[int, int]] = field(default_factory=dict)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    asked: dict[int, int] = field(default_factory=dict)

    def read_until(self, at_ns: int) -> int:
        """Up to which record `predictions` had been read at an instant."""
        return max((behind for when_ns, _, behind in self.reads if when_ns <= at_ns), default=0)

    def read_at(self, record: int) -> int:
        """When a record of `predictions` was read; in the far future if it was not."""
        return next((at_ns for at_ns, _, behind in self.reads if behind > record), 10**18)

    def leave(self, offset: int, at_ns: int) -> None:
        """An event was decided."""
        self.left[offset] = (at_ns, self.reads[-1][2] if self.reads else 0)


@dataclass(slots=True)
class Journal:
    """All tenures, when each process stood still or was down, and which escalations were lost."""

    tenures: list[Tenure] = field(default_factory=list)
    pauses: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    lost: set[tuple[str, int, int]] = field(default_factory=set)

    def open(self, combiner: str, place: Place, backlog_below: int) -> Tenure:
        """A new tenure."""
        tenure = Tenure(len(self.tenures), combiner, place, backlog_below)
        self.tenures.append(tenure)
        return tenure

    def stood_still_ns(self, process: str, from_ns: int, to_ns: int) -> int:
        """How long a process stood still between two instants."""
        overlaps = (min(e, to_ns) - max(b, from_ns) for b, e in self.pauses.get(process, ()))
        return sum(overlap for overlap in overlaps if overlap > 0)
