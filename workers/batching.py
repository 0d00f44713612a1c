"""From record batches that wait to one micro-batch, and back to who asked.

A mailbox has no timer: whoever is free takes what waits, up to a limit of rows. A lone event is
taken alone and at once; while a model is busy, events gather and the next batch is larger, until
the model keeps up.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# A first batch of a model nobody has timed; 2 s at 60 ms a row, which is a slow model.
FIRST_LIMIT = 32
# A call that takes longer is made smaller: others wait behind it, and a watchdog must be able to
# tell a large batch from a hung model.
LONG_CALL_NS = 250_000_000
# Full calls between two attempts to find out whether larger ones pay.
TRY_EVERY = 100


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """Decoded events of one partition.

    Attributes:
        topic: the input topic.
        partition: the input partition.
        offsets: int64[N], ascending; escalated events come in any order, some perhaps again.
        matrix: float64[N, F]; shared by all models, so nobody may write to it.
        received_ns: monotonic instant at which the events were fetched.
        ticket: what the commit tracker knows the batch by.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    matrix: NDArray[np.float64]
    received_ns: int
    ticket: int

    def __len__(self) -> int:
        return len(self.offsets)

    def split(self, rows: int) -> tuple["RecordBatch", "RecordBatch"]:
        """The first `rows` rows and the others, without copying."""
        assert 0 < rows < len(self), (rows, len(self))
        return self._part(slice(None, rows)), self._part(slice(rows, None))

    def _part(self, rows: slice) -> "RecordBatch":
        return RecordBatch(
            self.topic,
            self.partition,
            self.offsets[rows],
            self.matrix[rows],
            self.received_ns,
            self.ticket,
        )


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """What one model call is about: one matrix, and the record batches it was made of.

    Attributes:
        parts: the record batches, in the order of their rows.
        matrix: float64[N, F], read-only; nobody else's.
        places: what of it belongs to each partition.
    """

    parts: tuple[RecordBatch, ...]
    matrix: NDArray[np.float64]
    places: "tuple[Share, ...]" = field(init=False)

    def __post_init__(self) -> None:
        # Not when it is asked for: `functools.cached_property` has one lock for all batches until
        # Python 3.12, and the threads of many models stand in line for it.
        object.__setattr__(self, "places", _places(self.parts))

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def received_ns(self) -> int:
        """When the event that has waited longest was fetched."""
        return min(part.received_ns for part in self.parts)


class Share(NamedTuple):
    """What of a micro-batch belongs to one partition.

    `parts` are its record batches, `rows` int64[M] the rows of the matrix, `offsets` int64[M]
    their events.
    """

    parts: list[RecordBatch]
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]


def _places(batches: tuple[RecordBatch, ...]) -> tuple[Share, ...]:
    """What of some batches, one behind the other, belongs to each partition."""
    groups: dict[tuple[str, int], tuple[list[RecordBatch], list[NDArray[np.int64]]]] = {}
    begin = 0
    for batch in batches:
        parts, rows = groups.setdefault((batch.topic, batch.partition), ([], []))
        parts.append(batch)
        rows.append(np.arange(begin, begin + len(batch)))
        begin += len(batch)
    return tuple(
        Share(
            parts,
            rows[0] if len(rows) == 1 else np.concatenate(rows),
            parts[0].offsets
            if len(parts) == 1
            else np.concatenate([part.offsets for part in parts]),
        )
        for parts, rows in groups.values()
    )


class Mailbox:
    """What waits for one model, in the order of arrival."""

    def __init__(self) -> None:
        self._batches: deque[RecordBatch] = deque()
        self._rows = 0

    def __len__(self) -> int:
        """Rows that wait."""
        return self._rows

    def put(self, batch: RecordBatch) -> None:
        """Add a batch at the end; one without rows is nothing."""
        if len(batch):
            self._batches.append(batch)
            self._rows += len(batch)

    def take(self, max_rows: int) -> MicroBatch:
        """Up to `max_rows` of the rows that have waited longest; a long batch is split."""
        assert self._batches, "nothing waits"
        assert max_rows > 0, max_rows
        parts: list[RecordBatch] = []
        room = max_rows
        while room and self._batches:
            batch = self._batches.popleft()
            if len(batch) > room:
                batch, rest = batch.split(room)
                self._batches.appendleft(rest)
            parts.append(batch)
            room -= len(batch)
        self._rows -= max_rows - room
        # Always a copy: a model that writes to it from native code must not spoil that of others.
        matrix = np.concatenate([part.matrix for part in parts])
        matrix.flags.writeable = False
        return MicroBatch(tuple(parts), matrix)


class BatchLimit:
    """How many rows a call may have, from how long calls take.

    A fast model is soon given `max_rows`. One whose calls take their time gets more rows as long
    as these come nearly for nothing, as behind a network or on a graphics card; where each row
    takes milliseconds, larger calls only make others wait.
    """

    def __init__(self, max_rows: int) -> None:
        assert max_rows > 0, max_rows
        self._max_rows = max_rows
        self.rows = min(FIRST_LIMIT, max_rows)
        # The last full call before the limit grew: its rows, and what it took.
        self._smaller: tuple[int, int] | None = None
        self._tries_in = 0  # full calls until larger ones are tried again

    def observe(self, rows: int, took_ns: int) -> None:
        """Learn from a call of so many rows."""
        if took_ns > LONG_CALL_NS:
            self._settle(max(1, min(self.rows, rows) // 2))
        elif rows < self.rows:
            return
        elif took_ns < LONG_CALL_NS // 4:
            self._grow(rows, took_ns)
        elif self._smaller is None:
            self._tries_in -= 1
            if self._tries_in < 0:
                self._grow(rows, took_ns)
        elif _rows_are_cheap(self._smaller, (rows, took_ns)):
            self._grow(rows, took_ns)
        else:
            self._settle(self._smaller[0])

    def _grow(self, rows: int, took_ns: int) -> None:
        """To what is not long even if every row costs alike."""
        factor = min(2.0, LONG_CALL_NS / max(1, took_ns))
        self._smaller = (rows, took_ns)
        self.rows = min(int(self.rows * factor), self._max_rows)

    def _settle(self, rows: int) -> None:
        self.rows, self._smaller, self._tries_in = rows, None, TRY_EVERY


def _rows_are_cheap(smaller: tuple[int, int], larger: tuple[int, int]) -> bool:
    """Whether the rows that were added cost less than half of what a row costs on average."""
    (few, few_ns), (many, many_ns) = smaller, larger
    return (many_ns - few_ns) * many * 2 <= (many - few) * many_ns
