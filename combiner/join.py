"""The deadline join of one partition: events on one side, the answers of M models on the other.

Think of a register at a counter. Each event opens a row, each model has a column, and an answer
fills one cell. Rows leave from the top, in the order in which they came, as soon as nothing more
is expected for them or their time is up. The clerk owns no watch: whoever calls says what time
it is, and is told when to call again.

Rules of this file:

1. A cell is filled at most once. WAITING becomes ANSWERED or REFUSED and stays so; whatever
   comes for a filled cell is a duplicate. This is what makes repeated predictions harmless.
2. A row settles when no *expected* model is WAITING in it, or when its time is up:
   - a fresh event at `deadline_ns` after it was seen here;
   - a backlog event (one that lay in the topic before its reader came that far) once every
     model that it still waits for has stood still for `stall_ns`, and at `catch_up_limit_ns`
     in any case. An outage must not turn its backlog into fallbacks.
3. Rows leave in order. A row that is done stays behind an earlier one that is not. Among fresh
   rows deadlines come in order, so it still leaves before its own; behind backlog it may not.
4. Settled rows are remembered for a while. Each model is *judged* on each row once, at the row's
   deadline and not when it settled, so that a model nobody waits for can show that it is back,
   and so that late answers are known to be late.
5. An answer can overtake its event. It is held until the event comes.

A row that cannot be scored (a bad event) is added with `scoreable` False: it expects nothing,
and keeps its place so that everything leaves in one order.

Rows live in arrays between `_first` (oldest remembered), `_judged`, `_head` (oldest pending) and
`_tail`. A row's *sequence number* counts all rows ever added and survives the moving of arrays.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from combiner.answers import Answers, Cells, EarlyAnswers, Judgement
from combiner.settled import ANSWERED, REFUSED, WAITING, Settled

_FOREVER = np.iinfo(np.int64).max
_INITIAL_ROWS = 4096
# Rows looked at per step when settling: small enough to stay in the processor's cache.
_CHUNK_ROWS = 8192

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """Limits of a join. Durations in nanoseconds, `remembered` in rows."""

    members: int
    deadline_ns: int
    stall_ns: int
    catch_up_limit_ns: int
    remembered: int = 4096

    def __post_init__(self) -> None:
        assert self.members > 0
        assert 0 < self.deadline_ns <= self.catch_up_limit_ns
        assert self.stall_ns > 0


class DeadlineJoin:
    """Joins the answers of M models to the events of one partition."""

    def __init__(self, config: JoinConfig, expected: Bools) -> None:
        assert expected.shape == (config.members,)
        self.config = config
        self._expected = expected.copy()
        self._progress_ns = np.zeros(config.members, dtype=np.int64)
        self._first = self._judged = self._head = self._tail = 0
        self._base = 0
        self._last_offset = -1
        self._reasons: dict[tuple[int, int], str] = {}
        self._early = EarlyAnswers()
        self._allocate(_INITIAL_ROWS)

    def _allocate(self, rows: int) -> None:
        members = self.config.members
        self._capacity = rows
        self._offsets: Ints = np.empty(rows, dtype=np.int64)
        self._seen_ns: Ints = np.empty(rows, dtype=np.int64)
        self._due_ns: Ints = np.empty(rows, dtype=np.int64)
        self._record: Ints = np.empty(rows, dtype=np.int64)
        self._remaining: NDArray[np.int32] = np.empty(rows, dtype=np.int32)
        self._backlog: Bools = np.empty(rows, dtype=np.bool_)
        self._scoreable: Bools = np.empty(rows, dtype=np.bool_)
        # One line per member: a frame writes neighbouring cells.
        self._states: NDArray[np.uint8] = np.empty((members, rows), dtype=np.uint8)
        self._scores: Floats = np.empty((members, rows), dtype=np.float64)

    # -- what is in here ---------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Events that have not left."""
        return self._tail - self._head

    @property
    def early(self) -> int:
        """Answers held for events that have not come."""
        return self._early.cells

    @property
    def last_offset(self) -> int:
        """Offset of the newest event, -1 before the first."""
        return self._last_offset

    def lowest_pending(self) -> int | None:
        """Offset of the oldest event that has not left."""
        return int(self._offsets[self._head]) if self.pending else None

    def lowest_record(self) -> int | None:
        """Lowest offset in `predictions` that a pending or coming event still needs."""
        lowest = self._early.lowest_record(default=_FOREVER)
        if self.pending:
            lowest = min(lowest, int(self._record[self._head : self._tail].min()))
        return None if lowest == _FOREVER else lowest

    # -- what comes in -----------------------------------------------------------------------

    def add_events(
        self, offsets: Ints, scoreable: Bools, backlog_below: int, now_ns: int
    ) -> Answers:
        """Open a row for each event.

        Args:
            offsets: int64[N], strictly ascending and above all earlier ones.
            scoreable: bool[N]; False for events that no model can score.
            backlog_below: events with a lower offset are backlog.
            now_ns: monotonic time.

        Returns:
            What became of answers that had been waiting for these events.
        """
        count = len(offsets)
        if count == 0:
            return Answers()
        assert int(offsets[0]) > self._last_offset, "events come in order, each once"
        self._make_room(count)
        if self._tail == self._head:
            # A model cannot stand still while there is nothing to do.
            np.maximum(self._progress_ns, now_ns, out=self._progress_ns)
        rows = slice(self._tail, self._tail + count)
        backlog = offsets < backlog_below
        config = self.config
        self._offsets[rows] = offsets
        self._seen_ns[rows] = now_ns
        self._backlog[rows] = backlog
        self._due_ns[rows] = now_ns + np.where(
            backlog, config.catch_up_limit_ns, config.deadline_ns
        )
        self._record[rows] = _FOREVER
        self._scoreable[rows] = scoreable
        self._states[:, rows] = np.where(scoreable, WAITING, REFUSED)
        self._remaining[rows] = np.where(scoreable, np.count_nonzero(self._expected), 0)
        self._tail += count
        self._last_offset = int(offsets[-1])
        return self._release_early(now_ns) if self._early.cells else Answers()

    def add_answers(self, member: int, cells: Cells, now_ns: int) -> Answers:
        """Fill one model's cells for some events; `member` is its column."""
        self._progress_ns[member] = max(now_ns, int(self._progress_ns[member]))
        answers = Answers()
        if int(cells.offsets.max()) > self._last_offset:
            later = cells.offsets > self._last_offset
            answers.early = int(np.count_nonzero(later))
            self._early.hold(member, cells.take(np.flatnonzero(later)))
            if answers.early == len(cells):
                return answers
            cells = cells.take(np.flatnonzero(~later))
        rows: slice | Ints | None = self._run_of(cells.offsets)
        if rows is None:
            positions, known = self._rows_of(cells.offsets)
            answers.unknown = len(cells) - len(positions)
            if np.count_nonzero(known[1:] <= known[:-1]):
                # The same event twice in one frame: the first answer holds.
                rows, once = np.unique(known, return_index=True)
                answers.duplicate = len(known) - len(once)
                cells = cells.take(positions[once])
            else:
                rows = known
                cells = cells.take(positions) if answers.unknown else cells
        self._fill(member, rows, cells, now_ns, answers)
        return answers

    def _run_of(self, offsets: Ints) -> slice | None:
        """The rows of events that follow each other, if rows do so too; the usual case."""
        first, tail = self._first, self._tail
        if first == tail:
            return None
        low, count, oldest = int(offsets[0]), len(offsets), int(self._offsets[first])
        dense = self._last_offset - oldest == tail - first - 1
        if not dense or low < oldest or int(offsets[-1]) - low != count - 1:
            return None
        if np.count_nonzero(offsets[1:] <= offsets[:-1]):
            return None
        start = first + low - oldest
        return slice(start, start + count)

    def _rows_of(self, offsets: Ints) -> tuple[Ints, Ints]:
        """Positions of the events that have a row, and their rows."""
        known = self._offsets[self._first : self._tail]
        places = np.searchsorted(known, offsets)
        inside = np.flatnonzero(places < len(known))
        positions = inside[known[places[inside]] == offsets[inside]]
        return positions, places[positions] + self._first

    def _fill(
        self, member: int, rows: slice | Ints, cells: Cells, now_ns: int, answers: Answers
    ) -> None:
        states = self._states[member]
        filled = states[rows]
        if np.count_nonzero(filled):
            keep = np.flatnonzero(filled == WAITING)
            answers.duplicate += len(filled) - len(keep)
            rows, cells = _indices(rows)[keep], cells.take(keep)
        count = len(cells)
        if not count:
            return
        # False and True, one up: ANSWERED and REFUSED.
        states[rows] = np.isnan(cells.scores).view(np.uint8) + np.uint8(ANSWERED)
        self._scores[member, rows] = cells.scores
        if self._expected[member]:
            self._remaining[rows] -= 1
        self._record[rows] = np.minimum(self._record[rows], cells.record)
        answers.filled = count
        answers.latency_ns = count * now_ns - int(np.add.reduce(self._seen_ns[rows]))
        answers.late = self._settled_among(rows)
        where = _indices(rows) if cells.reasons else np.empty(0)
        for position, reason in cells.reasons.items():
            # Anybody may write a reason beside a score: it would never be read.
            if where[position] >= self._head and np.isnan(cells.scores[position]):
                self._reasons[(self._base + int(where[position]), member)] = reason

    def _settled_among(self, rows: slice | Ints) -> int:
        if isinstance(rows, slice):
            start, stop = int(rows.start), int(rows.stop)
            return max(0, min(stop, self._head) - start)
        settled: Bools = np.less(rows, self._head)
        return int(np.count_nonzero(settled))

    def set_expected(self, expected: Bools) -> None:
        """Say which models are waited for from now on, in pending rows too."""
        if np.array_equal(expected, self._expected):
            return
        self._expected = expected.copy()
        rows = slice(self._head, self._tail)
        self._remaining[rows] = np.count_nonzero(self._states[expected, rows] == WAITING, axis=0)

    def _release_early(self, now_ns: int) -> Answers:
        total = Answers()
        for member, cells in self._early.release(self._last_offset):
            total += self.add_answers(member, cells, now_ns)
        total.early = 0  # they were counted when they came
        return total

    # -- what goes out -----------------------------------------------------------------------

    def settle(self, now_ns: int, limit: int = _CHUNK_ROWS) -> Settled | None:
        """Let the rows go that are done or due, oldest first; None when there is none.

        At most `limit` rows leave in one call; call again until None.
        """
        head = self._head
        stop = min(self._tail, head + limit)
        if head == stop or not self._leaves(slice(head, head + 1), now_ns)[0]:
            return None
        leaves = self._leaves(slice(head, stop), now_ns)
        count = len(leaves) if leaves.all() else int(np.argmin(leaves))
        rows = slice(head, head + count)
        self._head += count
        # Backlog has no deadline of its own: it is judged as it leaves.
        self._due_ns[rows] = np.where(self._backlog[rows], now_ns, self._due_ns[rows])
        states = self._states[:, rows].T.copy()
        return Settled(
            self._base + head,
            self._offsets[rows].copy(),
            self._scores[:, rows].T.copy(),
            states,
            self._seen_ns[rows].copy(),
            self._scoreable[rows].copy(),
            self._take_reasons(self._base + head, states),
        )

    def _leaves(self, rows: slice, now_ns: int) -> Bools:
        """bool[N]: rule 2."""
        leaves: Bools = (self._remaining[rows] <= 0) | (self._due_ns[rows] <= now_ns)
        backlog = self._backlog[rows]
        if backlog.any() and not leaves.all():
            moving = self._expected & (self._progress_ns + self.config.stall_ns > now_ns)
            waits = (self._states[moving, rows] == WAITING).any(axis=0)
            young = self._seen_ns[rows] + self.config.stall_ns > now_ns
            leaves |= backlog & ~waits & ~young
        return leaves

    def next_wake_ns(self) -> int | None:
        """When `settle` can have something to say although nothing comes in; None is never."""
        if not self.pending:
            return None
        head = self._head
        if self._remaining[head] <= 0:
            return 0
        due = int(self._due_ns[head])
        if self._backlog[head]:
            waited = self._expected & (self._states[:, head] == WAITING)
            stalls = int(self._progress_ns[waited].max()) + self.config.stall_ns
            young = int(self._seen_ns[head]) + self.config.stall_ns
            due = min(due, max(stalls, young))
        return due

    def judge(self, now_ns: int) -> Judgement | None:
        """How the models did on the rows whose deadline passed since the last call."""
        rows = slice(self._judged, self._head)
        passed = self._due_ns[rows] <= now_ns
        count = len(passed) if passed.all() else int(np.argmin(passed))
        if not count:
            return None
        rows = slice(self._judged, self._judged + count)
        self._judged += count
        states = self._states[:, rows][:, self._scoreable[rows]]
        return Judgement(
            np.count_nonzero(states == ANSWERED, axis=1),
            np.count_nonzero(states == REFUSED, axis=1),
            np.count_nonzero(states == WAITING, axis=1),
        )

    def _take_reasons(self, sequence: int, states: NDArray[np.uint8]) -> dict[tuple[int, int], str]:
        if not self._reasons:
            return {}
        refused = zip(*(places.tolist() for places in np.nonzero(states == REFUSED)), strict=True)
        found = {(row, m): self._reasons.pop((sequence + row, m), "") for row, m in refused}
        return {cell: reason for cell, reason in found.items() if reason}

    # -- room --------------------------------------------------------------------------------

    def _make_room(self, count: int) -> None:
        if self._tail + count <= self._capacity:
            return
        self._first = max(self._first, min(self._judged, self._head) - self.config.remembered)
        live = self._tail - self._first
        capacity = self._capacity
        while capacity < 2 * (live + count):
            capacity *= 2
        old = slice(self._first, self._tail)
        kept = (
            self._offsets[old], self._seen_ns[old], self._due_ns[old], self._record[old],
            self._remaining[old], self._backlog[old], self._scoreable[old],
            self._states[:, old], self._scores[:, old],
        )  # fmt: skip
        if capacity > self._capacity:
            self._allocate(capacity)
        new = slice(0, live)
        targets: tuple[NDArray[Any], ...] = (
            self._offsets, self._seen_ns, self._due_ns, self._record,
            self._remaining, self._backlog, self._scoreable, self._states, self._scores,
        )  # fmt: skip
        for target, source in zip(targets, kept, strict=True):
            target[..., new] = source
        shift = self._first
        self._base += shift
        self._first, self._judged = 0, self._judged - shift
        self._head, self._tail = self._head - shift, self._tail - shift


def _indices(rows: slice | Ints) -> Ints:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
