"""The deadline join of one partition: events on one side, the answers of M models on the other.

Think of a register at a counter. Each event opens a row, each model has a column, and an answer
fills one cell. Rows leave as soon as nothing more is expected for them or their time is up. The
clerk owns no watch: whoever calls says what time it is, and is told when to call again.

Rules of this file:

1. A cell is filled at most once. WAITING becomes ANSWERED or REFUSED and stays so; whatever
   comes for a filled cell is a duplicate. This is what makes repeated predictions harmless.
2. A row settles when no *expected* model is WAITING in it, when its quorum is met (if there is
   one), or when its time is up:
   - a fresh event at `deadline_ns` after it was seen here;
   - a backlog event (one that lay in the topic before its reader came that far) once every
     model that it still waits for has stood still for `stall_ns`, and at `catch_up_limit_ns`
     in any case. Until any answers all move until `patient_until_ns`: they are starting too;
   - `in_order` an event that comes when the first row is backlog and has waited for `deadline_ns`
     already shares its fate: it cannot leave before that one, and the models are as far behind.
     It is backlog of the same age, but that nobody is given up for it before its own deadline.
3. `in_order` rows leave from the top, in the order in which they came: a row that is done stays
   behind an earlier one that is not. Among fresh rows deadlines come in order, so it still leaves
   before its own; behind backlog it may not. Otherwise rows leave when they settle, and those
   that left ahead of an earlier one are listed (`position`). When the list would become longer
   than `ahead_bytes`, rows wait for the earlier ones, as if in order.
4. Settled rows are remembered for a while. Each model is *judged* on each row once, at the row's
   deadline and not when it settled, so that late answers are known to be late; one that nobody
   waits for as soon as it has answered, so that it can show that it is back.
5. An answer can overtake its event. It is held until the event comes.

A row that cannot be scored (a bad event) is added with `scoreable` False: it expects nothing,
and keeps its place so that everything leaves in one order. An event that left in an earlier life
(`skip`) has a row that is gone from the start.
"""

import numpy as np
from numpy.typing import NDArray

from combiner.ahead import Runs
from combiner.answers import Answers, Cells, EarlyAnswers, Reasons
from combiner.limits import JoinConfig as JoinConfig  # noqa: PLC0414 -- also found here
from combiner.overtaking import Overtaking
from combiner.rows import Bools, Floats, Ints, Rows, indices
from combiner.settled import ANSWERED, REFUSED, WAITING, Settled
from combiner.verdicts import Judgement, Verdicts
from combiner.waiting import begin_to_wait, done, wakes_ns

_FOREVER = np.iinfo(np.int64).max
# Rows looked at per step when settling: small enough to stay in the processor's cache.
CHUNK_ROWS = 8192
_FEW_ROWS = 64


class DeadlineJoin:
    """Joins the answers of M models to the events of one partition."""

    def __init__(self, config: JoinConfig, expected: Bools) -> None:
        assert expected.shape == (config.members,)
        self.config = config
        self._rows = Rows(
            config.members, config.columns, config.initial_rows, stamped=config.stamped
        )
        self._expected = expected.copy()
        self._progress_ns = np.full(config.members, config.patient_until_ns, dtype=np.int64)
        self._last_offset = -1
        self._reasons = Reasons()
        self._early = EarlyAnswers()
        self._overtaking = Overtaking(self._rows, config.ahead_bytes)
        self._verdicts = Verdicts(self._rows, expected)
        self._changed = False  # whether an answer came since quorum or cascade was looked at

    # -- what is in here ---------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Events that have not left."""
        return self._rows.tail - self._rows.head - self._overtaking.count

    @property
    def span(self) -> int:
        """Events from the oldest that has not left on, with those that left ahead of it."""
        return self._rows.tail - self._rows.head

    @property
    def early(self) -> int:
        """Answers held for events that have not come."""
        return self._early.cells

    @property
    def last_offset(self) -> int:
        """Offset of the newest event, -1 before the first."""
        return self._last_offset

    @property
    def oldest(self) -> int:
        """Number of the oldest row that has not left."""
        return self._rows.base + self._rows.head

    def position(self) -> tuple[int, Runs] | None:
        """The first offset that has not left, and what left above it; None before any event."""
        return None if self._last_offset < 0 else self._overtaking.position()

    def lowest_record(self) -> int | None:
        """Lowest offset in `predictions` that a pending or coming event still needs."""
        rows = self._rows
        lowest = self._early.lowest_record(default=_FOREVER)
        if self.pending:
            records = rows.record[rows.head : rows.tail]
            if self._overtaking.count:
                records = records[~rows.gone[rows.head : rows.tail]]
            lowest = min(lowest, int(records.min()))
        return None if lowest == _FOREVER else lowest

    # -- what comes in -----------------------------------------------------------------------

    def skip(self, gone: Runs) -> None:
        """Before the first event: these offsets left in an earlier life."""
        assert self._last_offset < 0, "events came already"
        self._overtaking.earlier = gone

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
        rows, config = self._rows, self.config
        rows.make_room(count, config.remembered)
        if rows.tail == rows.head:
            # A model cannot stand still while there is nothing to do.
            np.maximum(self._progress_ns, now_ns, out=self._progress_ns)
        new = slice(rows.tail, rows.tail + count)
        rows.offsets[new] = offsets
        begin_to_wait(rows, new, offsets < backlog_below, config, now_ns)
        rows.record[new] = _FOREVER
        rows.gone[new] = rows.changed[new] = rows.met[new] = rows.hurried[new] = False
        overtaking = self._overtaking
        gone = overtaking.earlier.contain(offsets) if len(overtaking.earlier) else None
        if gone is not None:
            scoreable = scoreable & ~gone
            rows.gone[new] = gone
            rows.due_ns[new][gone] = now_ns
        self._open(new, scoreable)
        rows.tail += count
        self._last_offset = int(offsets[-1])
        if gone is not None:
            overtaking.earlier = overtaking.earlier.above(self._last_offset + 1)
            overtaking.let_head_go()
        return self._release_early(now_ns) if self._early.cells else Answers()

    def _open(self, new: slice, scoreable: Bools) -> None:
        """Empty cells for new rows."""
        rows = self._rows
        rows.scoreable[new] = scoreable
        rows.states[:, new] = np.where(scoreable, WAITING, REFUSED)
        rows.remaining[new] = np.where(scoreable, np.count_nonzero(self._expected), 0)

    def add_answers(self, member: int, cells: Cells, now_ns: int) -> Answers:
        """Fill one model's cells for some events; `member` is its column."""
        np.minimum(self._progress_ns, now_ns, out=self._progress_ns)
        self._progress_ns[member] = now_ns
        answers = Answers()
        if int(cells.offsets.max()) > self._last_offset:
            later = cells.offsets > self._last_offset
            answers.early = int(np.count_nonzero(later))
            self._early.hold(member, cells.take(np.flatnonzero(later)))
            if answers.early == len(cells):
                return answers
            cells = cells.take(np.flatnonzero(~later))
        rows: slice | Ints | None = self._rows.run_of(cells.offsets)
        if rows is None:
            positions, known = self._rows.find(cells.offsets)
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

    def add_together(
        self, members: Ints, offsets: Ints, scores: Floats, record: int, now_ns: int
    ) -> Answers | None:
        """As `add_answers` for several models, none of which refuses; says what became of each.

        None, and nothing is done, unless the events follow each other, have come, have not left,
        and wait for each of these models. `members` are int64[L], each once; `scores` are
        float64[L, N] for int64[N] events.
        """
        rows = self._rows
        which = rows.run_of(offsets)
        if which is None or which.start < rows.head or self._overtaking.count:
            return None
        if rows.states[members, which].any():
            return None
        np.minimum(self._progress_ns, now_ns, out=self._progress_ns)
        self._progress_ns[members] = now_ns
        rows.states[members, which] = ANSWERED
        rows.scores[members, 0, which] = scores
        rows.remaining[which] -= np.count_nonzero(self._expected[members])
        rows.record[which] = np.minimum(rows.record[which], record)
        rows.changed[which] = self._changed = True
        count = len(offsets)
        waited_ns = count * now_ns - int(np.add.reduce(rows.seen_ns[which]))
        return Answers(filled=count, latency_ns=waited_ns)

    def _fill(
        self, member: int, which: slice | Ints, cells: Cells, now_ns: int, answers: Answers
    ) -> None:
        rows, states = self._rows, self._rows.states[member]
        filled = states[which]
        if np.count_nonzero(filled):
            keep = np.flatnonzero(filled == WAITING)
            answers.duplicate += len(filled) - len(keep)
            which, cells = indices(which)[keep], cells.take(keep)
        if not (count := len(cells)):
            return
        # False and True, one up: ANSWERED and REFUSED.
        states[which] = cells.refused.view(np.uint8) + np.uint8(ANSWERED)
        rows.scores[member][:, which] = cells.scores.T
        if self._expected[member]:
            rows.remaining[which] -= 1
        rows.record[which] = np.minimum(rows.record[which], cells.record)
        rows.changed[which] = self._changed = True
        if cells.stamp is not None:
            rows.stamps[:, member, which] = np.array(cells.stamp)[:, None]
        answers.filled = count
        answers.latency_ns = count * now_ns - int(np.add.reduce(rows.seen_ns[which]))
        self._look_for_late(which, cells, now_ns, answers)
        where = indices(which) if cells.reasons else ()
        refused = cells.refused if cells.reasons else ()
        for position, reason in cells.reasons.items():
            row = int(where[position])
            # Anybody may write a reason beside a score: it would never be read.
            if refused[position] and row >= rows.head and not rows.gone[row]:
                self._reasons.keep(rows.base + row, member, reason)

    def _look_for_late(
        self, which: slice | Ints, cells: Cells, now_ns: int, answers: Answers
    ) -> None:
        """Rows that left before; those that did not wait for their deadline have until then."""
        rows = self._rows
        if isinstance(which, slice) and which.start >= rows.head and not self._overtaking.count:
            return
        places = indices(which)
        left: Bools = (places < rows.head) | rows.gone[which]
        if not left.any():
            return
        in_time = rows.backlog[which] | (rows.due_ns[which] > now_ns)
        answers.late = int(np.count_nonzero(left & ~(rows.hurried[which] & in_time)))
        answers.too_late = (rows.base + places[left & ~cells.refused],)

    def set_expected(self, expected: Bools) -> None:
        """Say which models are waited for from now on, in pending rows too."""
        if np.array_equal(expected, self._expected):
            return
        self._expected = expected.copy()
        self._verdicts.heed(expected)
        rows = slice(self._rows.head, self._rows.tail)
        self._rows.remaining[rows] = (self._rows.states[expected, rows] == WAITING).sum(axis=0)

    def _release_early(self, now_ns: int) -> Answers:
        total = Answers()
        for member, cells in self._early.release(self._last_offset):
            total += self.add_answers(member, cells, now_ns)
        total.early = 0  # they were counted when they came
        return total

    # -- what goes out -----------------------------------------------------------------------

    def settle(self, now_ns: int, limit: int = CHUNK_ROWS) -> Settled | None:
        """Let rows go that are done or due, oldest first; None when there is none.

        At most `limit` rows leave in one call; if fewer do, no more can leave at this instant.
        """
        rows = self._rows
        self._look_at_quorum()
        which = (self._from_the_top if self.config.in_order else self._wherever)(now_ns, limit)
        if which is None:
            return None
        if self.config.quorum is not None:
            rows.hurried[which] = ~self._done(which, now_ns)
        # Backlog has no deadline of its own: it is judged as it leaves.
        rows.due_ns[which] = np.where(rows.backlog[which], now_ns, rows.due_ns[which])
        if isinstance(which, slice):
            rows.head = which.stop
        else:
            self._overtaking.leave(which)
        numbers = rows.base + indices(which)
        states = rows.states[:, which].T.copy()
        return Settled(
            numbers,
            rows.offsets[which].copy(),
            rows.answers(which).copy(),
            states,
            rows.seen_ns[which].copy(),
            rows.scoreable[which].copy(),
            self._reasons.take(numbers, states),
            rows.hurried[which].copy(),
            rows.stamps[:, :, which].transpose(2, 1, 0).copy(),
        )

    def answers_to(self, numbers: Ints) -> tuple[Floats, NDArray[np.uint8]]:
        """float64[L, M, K] and uint8[L, M]: what there is by now of rows that are remembered."""
        which = numbers - self._rows.base
        scores = self._rows.scores[:, :, which].transpose(2, 0, 1)
        return scores, self._rows.states[:, which].T

    def _from_the_top(self, now_ns: int, limit: int) -> slice | Ints | None:
        """Rows that leave in order."""
        rows, head = self._rows, self._rows.head
        stop = min(rows.tail, head + limit)
        if head == stop:
            return None
        # Mostly the first row says that there is nothing to do; of a few all are as cheap as one.
        if stop - head > _FEW_ROWS and not self._leaves(slice(head, head + 1), now_ns)[0]:
            return None
        leaves = self._leaves(slice(head, stop), now_ns)
        if self._overtaking.count:
            leaves |= rows.gone[head:stop]
        count = len(leaves) if leaves.all() else int(leaves.argmin())
        if not count:
            return None
        if self._overtaking.count:
            return head + np.flatnonzero(~rows.gone[head : head + count])
        return slice(head, head + count)

    def _wherever(self, now_ns: int, limit: int) -> Ints | None:
        """Rows that leave when they are ready."""
        span = slice(self._rows.head, self._rows.tail)
        leaves = self._leaves(span, now_ns)
        if self._overtaking.count:
            leaves &= ~self._rows.gone[span]
        admitted = self._overtaking.admit(span.start + leaves.nonzero()[0][:limit])
        return admitted if len(admitted) else None

    def _leaves(self, which: slice, now_ns: int) -> Bools:
        """bool[N]: rule 2."""
        done = self._done(which, now_ns)
        return done if self.config.quorum is None else done | self._rows.met[which]

    def _done(self, which: slice | Ints, now_ns: int) -> Bools:
        """bool[N]: rule 2 without the quorum."""
        return done(self._rows, which, self._expected, self._progress_ns, self.config, now_ns)

    def _look_at_quorum(self) -> None:
        """Find out which rows have a quorum, of those that changed."""
        rows, quorum = self._rows, self.config.quorum
        if quorum is None or not self._changed:
            return
        self._changed = False
        span = slice(rows.head, rows.tail)
        which = rows.head + np.flatnonzero(rows.changed[span] & ~rows.met[span])
        if len(which):
            rows.changed[which] = False
            rows.met[which] = quorum.met(rows.answers(which), rows.states[:, which].T)

    def next_wake_ns(self) -> int | None:
        """When `settle` can have something to say although nothing comes in; None is never."""
        if not self.pending:
            return None
        self._look_at_quorum()
        first = np.array([self._rows.head])
        which = first if self.config.in_order else self._overtaking.waiting()
        wakes = wakes_ns(self._rows, which, self._expected, self._progress_ns, self.config)
        return int(wakes.min())

    def judge(self, now_ns: int) -> Judgement | None:
        """How the models did on the rows of which that is certain since the last call."""
        return self._verdicts.judge(now_ns)
