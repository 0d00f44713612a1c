"""The arrays in which the join keeps its rows; they move and grow, and forget the oldest.

Rows live between `first` (oldest remembered), `judged`, `head` (oldest that has not left) and
`tail`. A row's *number* counts all rows ever added and survives the moving of arrays: it is
`base` plus its place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from combiner.answers import Stamp

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Rows:
    """Room for rows of M cells, each with K numbers.

    Attributes:
        offsets: int64, the events.
        seen_ns: int64, when each was seen.
        due_ns: int64, when its time is up.
        patient_ns: int64, until when backlog waits for models that stand still.
        record: int64, the lowest offset in `predictions` that its answers came from.
        remaining: int32, expected models that are WAITING.
        backlog: bool, whether it lay in the topic before, or came behind what did.
        scoreable: bool, False for bad events.
        gone: bool, from `head` on: whether it left ahead of an earlier one.
        changed: bool, whether an answer came since the quorum was looked at.
        met: bool, whether its quorum is met.
        hurried: bool, whether it left for its quorum alone.
        asked: bool, whether the cascade's rule was asked (`combiner.escalating`); else meaningless.
        states: uint8[M, …], one line per member: a frame writes neighbouring cells.
        stamps: float64[4, M, …], when each answer was where (`combiner.answers.Stamp`); none of
            the four unless they are wanted.
        scores: float64[M, K, …].
    """

    def __init__(self, members: int, columns: int, capacity: int, *, stamped: bool = False) -> None:
        self._members, self._columns, self._stamped = members, columns, stamped
        self.first = self.judged = self.head = self.tail = 0
        self.base = 0
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        members = self._members
        self.capacity = capacity
        self.offsets: Ints = np.empty(capacity, dtype=np.int64)
        self.seen_ns: Ints = np.empty(capacity, dtype=np.int64)
        self.due_ns: Ints = np.empty(capacity, dtype=np.int64)
        self.patient_ns: Ints = np.empty(capacity, dtype=np.int64)
        self.record: Ints = np.empty(capacity, dtype=np.int64)
        self.remaining: NDArray[np.int32] = np.empty(capacity, dtype=np.int32)
        self.backlog: Bools = np.empty(capacity, dtype=np.bool_)
        self.scoreable: Bools = np.empty(capacity, dtype=np.bool_)
        self.gone: Bools = np.empty(capacity, dtype=np.bool_)
        self.changed: Bools = np.empty(capacity, dtype=np.bool_)
        self.met: Bools = np.empty(capacity, dtype=np.bool_)
        self.hurried: Bools = np.empty(capacity, dtype=np.bool_)
        self.asked: Bools = np.empty(capacity, dtype=np.bool_)
        self.states: NDArray[np.uint8] = np.empty((members, capacity), dtype=np.uint8)
        self.scores: Floats = np.empty((members, self._columns, capacity), dtype=np.float64)
        stamps = len(Stamp._fields) if self._stamped else 0
        self.stamps: Floats = np.empty((stamps, members, capacity), dtype=np.float64)

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        return (
            self.offsets, self.seen_ns, self.due_ns, self.patient_ns, self.record, self.remaining,
            self.backlog, self.scoreable, self.gone, self.changed, self.met, self.hurried,
            self.asked, self.states, self.scores, self.stamps,
        )  # fmt: skip

    def make_room(self, count: int, remembered: int) -> None:
        """Have room for `count` more; keep `remembered` rows before the oldest that is needed."""
        if self.tail + count <= self.capacity:
            return
        self.first = max(self.first, min(self.judged, self.head) - remembered)
        live = self.tail - self.first
        capacity = self.capacity
        while capacity < 2 * (live + count):
            capacity *= 2
        kept = [array[..., self.first : self.tail] for array in self._arrays()]
        if capacity > self.capacity:
            self._allocate(capacity)
        for target, source in zip(self._arrays(), kept, strict=True):
            target[..., :live] = source
        shift = self.first
        self.base += shift
        self.first, self.judged = 0, self.judged - shift
        self.head, self.tail = self.head - shift, self.tail - shift

    def answers(self, which: slice | Ints) -> Floats:
        """float64[N, M, K] of some rows."""
        return self.scores[:, :, which].transpose(2, 0, 1)

    def run_of(self, offsets: Ints) -> slice | None:
        """The rows of events that follow each other, if rows do so too; the usual case."""
        first, tail = self.first, self.tail
        if first == tail:
            return None
        low, count, oldest = int(offsets[0]), len(offsets), int(self.offsets[first])
        newest = int(self.offsets[tail - 1])
        high = int(offsets[-1])
        if newest - oldest != tail - first - 1 or low < oldest or high - low != count - 1:
            return None
        if high > newest or np.count_nonzero(offsets[1:] <= offsets[:-1]):
            return None
        start = first + low - oldest
        return slice(start, start + count)

    def find(self, offsets: Ints) -> tuple[Ints, Ints]:
        """Which of the offsets have a row, by position, and these rows."""
        known = self.offsets[self.first : self.tail]
        places = np.searchsorted(known, offsets)
        inside = np.flatnonzero(places < len(known))
        positions = inside[known[places[inside]] == offsets[inside]]
        return positions, places[positions] + self.first


def indices(rows: slice | Ints) -> Ints:
    """The rows one by one."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
