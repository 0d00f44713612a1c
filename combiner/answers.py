"""What models answer: a frame's cells, what became of them, and those that came too early."""

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from combiner.settled import REFUSED

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Answers:
    """What became of one frame's answers.

    `latency_ns` is the sum over `filled` cells of the time since their events were seen.
    `too_late` has the numbers of the rows that had left when a score came for them.
    """

    filled: int = 0
    late: int = 0
    duplicate: int = 0
    unknown: int = 0
    early: int = 0
    latency_ns: int = 0
    too_late: tuple[Ints, ...] = field(default=(), compare=False)

    def __iadd__(self, other: "Answers") -> "Answers":
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


class Stamp(NamedTuple):
    """When an answer was where; see `combiner.latency`.

    Attributes:
        arrived_ns: monotonic instant at which the combiner took it in.
        sent_ms: timestamp of its record.
        queue_ms: from the worker's fetch to the model call.
        model_ms: time of the call.
    """

    arrived_ns: float
    sent_ms: float
    queue_ms: float
    model_ms: float


@dataclass(frozen=True, slots=True)
class Cells:
    """One model's answers for some events.

    Attributes:
        offsets: int64[N], the events, in any order.
        scores: float64[N], or float64[N, K] of K classes; NaN (in all K) is a refusal.
        record: the offset in `predictions` these answers came from.
        reasons: why it refused, by position, where known.
        stamp: when they were where, if anybody wants to know.
    """

    offsets: Ints
    scores: Floats
    record: int
    reasons: dict[int, str] = field(default_factory=dict)
    stamp: Stamp | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def refused(self) -> NDArray[np.bool_]:
        """bool[N]."""
        scores = self.scores
        return np.isnan(scores if scores.ndim == 1 else scores[:, 0])

    def take(self, which: Ints) -> "Cells":
        """The answers at some positions, in the order of `which`."""
        reasons = self.reasons
        if reasons:
            places = {int(old): new for new, old in enumerate(which)}
            reasons = {places[old]: why for old, why in reasons.items() if old in places}
        return Cells(self.offsets[which], self.scores[which], self.record, reasons, self.stamp)


@dataclass(frozen=True, slots=True, order=True)
class _Early:
    """Answers whose events have not come yet, in ascending order of offsets."""

    first_offset: int
    arrival: int
    member: int = field(compare=False)
    cells: Cells = field(compare=False)


class EarlyAnswers:
    """Answers that overtook their events, held until those come."""

    def __init__(self) -> None:
        self._heap: list[_Early] = []
        self._arrivals = 0
        self.cells = 0

    def hold(self, member: int, cells: Cells) -> None:
        """Keep some cells."""
        cells = cells.take(np.argsort(cells.offsets, kind="stable"))
        self._arrivals += 1
        heapq.heappush(self._heap, _Early(int(cells.offsets[0]), self._arrivals, member, cells))
        self.cells += len(cells)

    def release(self, last_offset: int) -> list[tuple[int, Cells]]:
        """Members and their cells, some of each for events up to `last_offset`, as they came.

        A part of a frame may have been held again, and frames overlap: their order in the log
        says which answer was the first.
        """
        released: list[_Early] = []
        while self._heap and self._heap[0].first_offset <= last_offset:
            released.append(heapq.heappop(self._heap))
        self.cells -= sum(len(early.cells) for early in released)
        released.sort(key=lambda early: early.cells.record)
        return [(early.member, early.cells) for early in released]

    def lowest_record(self, default: int) -> int:
        """The lowest offset in `predictions` that something here came from."""
        return min((early.cells.record for early in self._heap), default=default)


class Reasons:
    """Why models refused, by the numbers of rows that have not left."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[int, int], str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def keep(self, number: int, member: int, reason: str) -> None:
        """Remember one."""
        self._reasons[(number, member)] = reason

    def take(self, numbers: Ints, states: NDArray[np.uint8]) -> dict[tuple[int, int], str]:
        """What is known of rows that leave, by (position, member); it is forgotten here."""
        if not self._reasons:
            return {}
        refused = zip(*(places.tolist() for places in np.nonzero(states == REFUSED)), strict=True)
        found = {(row, m): self._reasons.pop((int(numbers[row]), m), "") for row, m in refused}
        return {cell: reason for cell, reason in found.items() if reason}
