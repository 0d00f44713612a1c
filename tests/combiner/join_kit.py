"""What the join must do, said slowly: a reference made of lists and loops, and a checker.

`ReferenceJoin` takes one event and one answer at a time. `CheckedJoin` hands everything to a join
and to the reference and compares all that can be seen from outside after each step. `play` runs a
schedule, which is plain data, so that Hypothesis can make and shrink it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from combiner.ahead import MOST_BYTES, encoded_bytes, runs_of
from combiner.answers import Answers, Cells
from combiner.escalating import EscalatingJoin
from combiner.join import DeadlineJoin
from combiner.limits import JoinConfig
from combiner.quorum import ShareQuorum
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, WAITING, Settled
from combiner.verdicts import Judgement

START_NS = 1_000_000
# Few rows at the start, so that short schedules move and grow the arrays many times.
SMALL_ROWS = 8

Answer = tuple[int, float, str]  # offset, score (NaN refuses), reason (empty is none)


@dataclass
class Row:
    offset: int
    seen_ns: int
    due_ns: int
    patient_ns: int
    backlog: bool
    scoreable: bool
    behind_backlog: bool
    cells: list[tuple[int, float]]
    number: int
    gone: bool = False
    hurried: bool = False
    asked: bool = False  # whether the cascade's rule was asked
    reasons: dict[int, str] = field(default_factory=dict)
    records: list[int] = field(default_factory=list)


@dataclass
class Held:
    """A frame, or what is left of it, that came before its events."""

    member: int
    record: int
    answers: list[Answer]


class QuarterIsUncertain:
    """Asks the heavy members where one of the others said 0.25, or none said anything."""

    def __init__(self, heavy: Sequence[bool]) -> None:
        self.heavy = np.array(heavy)

    def escalates(
        self, scores: NDArray[np.float64], states: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        answered = (states == ANSWERED) & ~self.heavy
        quarter = answered & (scores[:, :, 0] == 0.25)
        found: NDArray[np.bool_] = quarter.any(axis=1) | ~answered.any(axis=1)
        return found


def numbers_of(answers: Answers) -> list[int]:
    """Of the rows that had left when a score came for them."""
    return sorted(number for part in answers.too_late for number in part.tolist())


class ReferenceJoin:
    """Rows are never moved or dropped; `judged` counts those at the front.

    `weights` and `share` are those of the quorum, if there is one; `heavy` are the members that
    are asked as `QuarterIsUncertain` says.
    """

    def __init__(
        self,
        config: JoinConfig,
        expected: list[bool],
        gone: Sequence[int] = (),
        share: float = 0.0,
        heavy: Sequence[int] = (),
    ) -> None:
        self.config = config
        self.heavy = set(heavy)
        self.escalated: list[int] = []
        self.earlier = set(gone)
        self.share = share
        self.held: list[Held] = []
        self.held_back: int | None = None  # number of a row
        self.expected = list(expected)
        self.progress_ns = [0] * config.members
        self.rows: list[Row] = []
        self.judged = 0
        self.judged_by_member = [0] * config.members
        self.forgotten = 0

    @property
    def last_offset(self) -> int:
        return self.rows[-1].offset if self.rows else -1

    @property
    def pending(self) -> list[Row]:
        return [row for row in self.rows if not row.gone]

    @property
    def head(self) -> int:
        """How many rows left without an earlier one that did not."""
        return next((row.number for row in self.rows if not row.gone), len(self.rows))

    def position(self) -> tuple[int, list[int]]:
        """The first offset that has not left, and all that left above it."""
        lowest = self.pending[0].offset if self.pending else self.last_offset + 1
        gone = {row.offset for row in self.rows if row.gone}
        gone |= {offset for offset in self.earlier if offset > self.last_offset}
        return lowest, sorted(offset for offset in gone if offset >= lowest)

    @property
    def _members(self) -> range:
        return range(self.config.members)

    def _begins(self, member: int) -> int:
        return NOT_ASKED if member in self.heavy else WAITING

    def add_events(
        self, events: list[tuple[int, bool]], backlog_below: int, now_ns: int
    ) -> Answers:
        if not self.pending:
            self.progress_ns = [max(before, now_ns) for before in self.progress_ns]
        first = self.pending[0] if self.pending else None
        for offset, scoreable in events:
            backlog = offset < backlog_below
            due_ns, patient_ns = now_ns + self.config.deadline_ns, now_ns
            if backlog:
                due_ns = now_ns + self.config.catch_up_limit_ns
                patient_ns = now_ns + self.config.stall_ns
            elif first is not None and self.is_late(first, now_ns):
                backlog, patient_ns = True, max(due_ns, first.patient_ns)
                due_ns = max(due_ns, first.due_ns)
            gone = offset in self.earlier
            usable = scoreable and not gone
            self.rows.append(
                Row(
                    offset,
                    now_ns,
                    now_ns if gone else due_ns,
                    patient_ns,
                    backlog,
                    usable,
                    any(row.backlog for row in self.pending),
                    [(self._begins(m) if usable else REFUSED, math.nan) for m in self._members],
                    len(self.rows),
                    gone,
                )
            )
        total = Answers()
        ready = [held for held in self.held if held.answers[0][0] <= self.last_offset]
        self.held = [held for held in self.held if held.answers[0][0] > self.last_offset]
        for held in sorted(ready, key=lambda held: held.record):
            total += self.add_answers(held.member, held.answers, held.record, now_ns)
        total.early = 0
        return total

    def add_answers(self, member: int, answers: list[Answer], record: int, now_ns: int) -> Answers:
        self.progress_ns[member] = max(self.progress_ns[member], now_ns)
        result = Answers()
        later = [answer for answer in answers if answer[0] > self.last_offset]
        if later:
            later.sort(key=lambda answer: answer[0])
            self.held.append(Held(member, record, later))
            result.early = len(later)
        for offset, score, reason in answers:
            if offset <= self.last_offset:
                self._fill(member, offset, score, reason, record, now_ns, result)
        return result

    def _fill(
        self,
        member: int,
        offset: int,
        score: float,
        reason: str,
        record: int,
        now_ns: int,
        result: Answers,
    ) -> None:
        places = [place for place, row in enumerate(self.rows) if row.offset == offset]
        if not places or places[0] < self.forgotten:
            result.unknown += 1
            return
        row = self.rows[places[0]]
        if row.cells[member][0] not in {WAITING, NOT_ASKED}:
            result.duplicate += 1
            return
        row.cells[member] = (REFUSED if math.isnan(score) else ANSWERED, score)
        row.records.append(record)
        result.filled += 1
        result.latency_ns += now_ns - row.seen_ns
        if row.gone:
            in_time = row.hurried and (row.backlog or row.due_ns > now_ns)
            result.late += not in_time
            if not math.isnan(score):
                result.too_late += (np.array([row.number]),)
        elif math.isnan(score) and reason:
            row.reasons[member] = reason

    def waiting_for(self, row: Row) -> list[int]:
        return [
            member
            for member, (state, _) in enumerate(row.cells)
            if self.expected[member] and state == WAITING
        ]

    def enough(self, row: Row) -> bool:
        """Whether the quorum is met: members weigh 1, 2, 3 …"""
        weights = [1 + member for member in range(self.config.members)]
        answered = [
            w for w, (state, _) in zip(weights, row.cells, strict=True) if state == ANSWERED
        ]
        return self.share > 0 and sum(answered) >= self.share * sum(weights)

    def leaves_at(self, row: Row) -> int | None:
        """When a row is through, if nothing more comes; None is at once."""
        return None if self.enough(row) else self.done_at(row)

    def done_at(self, row: Row) -> int | None:
        """The same without a quorum."""
        waiting = self.waiting_for(row)
        if not waiting:
            return None
        if not row.backlog:
            return row.due_ns
        stalls = [self.progress_ns[m] + self.config.stall_ns for m in waiting]
        return min(row.due_ns, max(*stalls, row.patient_ns))

    def is_late(self, first: Row, now_ns: int) -> bool:
        """Whether the first of the pending rows holds up what comes now."""
        waits = self.config.in_order and first.backlog
        return waits and first.seen_ns + self.config.deadline_ns <= now_ns

    def settle(self, now_ns: int, limit: int, left: int) -> list[Row]:
        """The rows that leave; `left` is how many did, for those that may be held back."""
        self._ask(now_ns)
        rows = self._from_the_top(now_ns, limit)
        if not self.config.in_order:
            rows = self._wherever(now_ns, limit, left)
        for row in rows:
            done = self.done_at(row)
            row.hurried = done is not None and done > now_ns
        for row in rows:
            if row.backlog:
                row.due_ns = now_ns
            row.gone = True
        return rows

    def _ask(self, now_ns: int) -> None:
        """Ask the rule about each row that waits for nobody and has time left."""
        asked_before = {
            member
            for member in self.heavy
            if any(row.cells[member][0] == WAITING for row in self.pending)
        }
        for row in self.pending:
            ready = not row.asked and row.scoreable and not self.waiting_for(row)
            if not self.heavy or not ready or row.due_ns <= now_ns:
                continue
            row.asked = True
            said = [
                score
                for member, (state, score) in enumerate(row.cells)
                if state == ANSWERED and member not in self.heavy
            ]
            unasked = [member for member in self.heavy if row.cells[member][0] == NOT_ASKED]
            if (0.25 in said or not said) and unasked:
                self.escalated.append(row.number)
                for member in unasked:
                    row.cells[member] = (WAITING, math.nan)
                for member in self.heavy - asked_before:
                    self.progress_ns[member] = max(self.progress_ns[member], now_ns)

    def ready(self, row: Row, now_ns: int) -> bool:
        at = self.leaves_at(row)
        return at is None or at <= now_ns

    def _from_the_top(self, now_ns: int, limit: int) -> list[Row]:
        rows: list[Row] = []
        for row in self.rows[self.head :][:limit]:
            if row.gone:
                continue
            if not self.ready(row, now_ns):
                break
            rows.append(row)
        return rows

    def _wherever(self, now_ns: int, limit: int, left: int) -> list[Row]:
        could = [row for row in self.pending if self.ready(row, now_ns)][:limit]
        self.held_back = None
        if left < len(could):
            assert not self.fits(could[: left + 1]), "held back without need"
            assert left or could[0].number != self.head, "the oldest is never held back"
            self.held_back = could[left].number
        # A list that came too long from an earlier life can only become shorter.
        only_head = left == bool(could and could[0].number == self.head)
        assert only_head or self.fits(could[:left]), "more than there is room for"
        return could[:left]

    def fits(self, rows: list[Row]) -> bool:
        """Whether the list of what is ahead is short enough once these have left."""
        for row in rows:
            row.gone = True
        size = self.text_bytes()
        for row in rows:
            row.gone = False
        return size <= self.config.ahead_bytes

    def text_bytes(self) -> int:
        """The length of the commit's text, counted run by run."""
        lowest, ahead = self.position()
        known = {row.offset for row in self.rows}
        edges: list[int] = []  # starts and stops
        for offset in ahead:
            # Nobody knows yet which offsets above the newest event there are.
            between = range(edges[-1], offset) if edges else ()
            if edges and all(o not in known and o <= self.last_offset for o in between):
                edges[-1] = offset + 1
            else:
                edges += [offset, offset + 1]
        if not edges:
            return 0
        lengths = [after - before for before, after in pairwise([lowest, *edges])]
        raw = sum(max(1, -(-length.bit_length() // 7)) for length in lengths)
        return len("ahead-1:") + raw // 4 * 5 + (raw % 4 + 1 if raw % 4 else 0)

    def next_wake_ns(self) -> int | None:
        pending = self.pending
        if not pending:
            return None
        if self.config.in_order:
            pending = pending[:1]
        elif self.held_back is not None:
            number = max(self.held_back, pending[0].number + 1)
            pending = [row for row in pending if row.number < number]
        return min(self.leaves_at(row) or 0 for row in pending)

    def judge(self, now_ns: int) -> tuple[list[list[int]], bool]:
        """For each member how many answered, refused, missed; and whether any row was judged."""
        counts = [[0, 0, 0] for _ in range(self.config.members)]
        before = [self.judged, *self.judged_by_member]
        while self.judged < self.head and self.rows[self.judged].due_ns <= now_ns:
            self.judged += 1
        for member, expected in enumerate(self.expected):
            place = self.judged_by_member[member]
            while place < self.head:
                row = self.rows[place]
                state, _ = row.cells[member]
                if place >= self.judged and (expected or state == WAITING):
                    break
                untimed = state == WAITING and row.hurried and row.backlog
                if row.scoreable and not untimed and state != NOT_ASKED:
                    counts[member][(ANSWERED, REFUSED, WAITING).index(state)] += 1
                place += 1
            self.judged_by_member[member] = place
        return counts, before != [self.judged, *self.judged_by_member]

    def lowest_record(self) -> int | None:
        records = [record for row in self.pending for record in row.records]
        return min(records + [held.record for held in self.held], default=None)


class CheckedJoin:
    """A join that is compared with the reference after every step."""

    def __init__(
        self,
        config: JoinConfig,
        expected: list[bool],
        join_class: type[DeadlineJoin],
        gone: Sequence[int] = (),
        share: float = 0.0,
        heavy: Sequence[int] = (),
    ) -> None:
        self.now_ns = START_NS
        self.records = 0
        self.emitted: list[int] = []
        self.escalations = 0
        if share:
            weights = np.arange(1.0, config.members + 1)
            everybody = np.ones(config.members, dtype=np.bool_)
            config = replace(config, quorum=ShareQuorum(weights, share, everybody, 1))
        if heavy:
            rule = QuarterIsUncertain([m in heavy for m in range(config.members)])
            config = replace(config, cascade=rule)
        self.join = join_class(config, np.array(expected))
        if gone:
            every = np.arange(max(gone) + 1)
            self.join.skip(runs_of(np.isin(every, list(gone)), every))
        self.reference = ReferenceJoin(config, expected, gone, share, heavy)

    def compare(self) -> None:
        join, reference = self.join, self.reference
        pending = reference.pending
        assert join.pending == len(pending)
        assert join.early == sum(len(held.answers) for held in reference.held)
        assert join.last_offset == reference.last_offset
        assert join.span == len(reference.rows) - reference.head
        assert join.oldest == reference.head
        self.compare_position()
        assert join.lowest_record() == reference.lowest_record()
        assert join.next_wake_ns() == reference.next_wake_ns()

    def compare_position(self) -> None:
        found = self.join.position()
        if found is None:
            assert not self.reference.rows
            return
        lowest, ahead = self.reference.position()
        assert found[0] == lowest
        known = np.array([row.offset for row in self.reference.rows if row.offset >= lowest])
        if len(known):
            assert known[found[1].contain(known)].tolist() == [o for o in ahead if o in set(known)]
        later = np.array([o for o in ahead if o > self.reference.last_offset], dtype=np.int64)
        assert found[1].contain(later).all()
        assert encoded_bytes(*found) == self.reference.text_bytes()

    def add_events(self, events: list[tuple[int, bool]], backlog_below: int = 0) -> Answers:
        offsets = np.array([offset for offset, _ in events], dtype=np.int64)
        scoreable = np.array([good for _, good in events], dtype=np.bool_)
        answers = self.join.add_events(offsets, scoreable, backlog_below, self.now_ns)
        # What the join has dropped is its own choice, within what `remembered` promises.
        forgotten = self.join._rows.base + self.join._rows.first
        promised = max(0, self.reference.judged - self.reference.config.remembered)
        assert self.reference.forgotten <= forgotten <= promised
        # The arrays move before the events come in, and so before early answers are looked up.
        self.reference.forgotten = forgotten
        assert answers == self.reference.add_events(events, backlog_below, self.now_ns)
        self.compare()
        return answers

    def add_answers(self, member: int, answers: list[Answer]) -> Answers:
        cells = Cells(
            np.array([offset for offset, _, _ in answers], dtype=np.int64),
            np.array([score for _, score, _ in answers]),
            self.records,
            {place: why for place, (_, _, why) in enumerate(answers) if why},
        )
        before = cells.offsets.copy(), cells.scores.copy(), dict(cells.reasons)
        found = self.join.add_answers(member, cells, self.now_ns)
        expected = self.reference.add_answers(member, answers, self.records, self.now_ns)
        assert found == expected
        assert numbers_of(found) == numbers_of(expected)
        assert np.array_equal(before[0], cells.offsets)
        assert np.array_equal(before[1], cells.scores, equal_nan=True)
        assert before[2] == cells.reasons
        self.records += 1
        self.compare()
        return found

    def set_expected(self, expected: list[bool]) -> None:
        given = np.array(expected)
        self.join.set_expected(given)
        given[:] = ~given  # whoever gave it may use it for something else
        self.reference.expected = list(expected)
        self.compare()

    def settle(self, limit: int = 1000) -> Settled | None:
        settled = self.join.settle(self.now_ns, limit)
        rows = self.reference.settle(self.now_ns, limit, 0 if settled is None else len(settled))
        if settled is None:
            assert not rows
        else:
            _compare_settled(settled, rows)
            self.emitted += settled.offsets.tolist()
        if isinstance(self.join, EscalatingJoin):
            assert self.join.take_escalated().tolist() == self.reference.escalated
            self.escalations += len(self.reference.escalated)
            self.reference.escalated = []
        self.compare()
        return settled

    def settle_all(self) -> int:
        count = 0
        while (settled := self.settle()) is not None:
            count += len(settled)
        return count

    def judge(self) -> Judgement | None:
        counts, judged = self.reference.judge(self.now_ns)
        judgement = self.join.judge(self.now_ns)
        assert (judgement is not None) == judged
        if judgement is not None:
            found = [judgement.answered, judgement.refused, judgement.missed]
            assert [list(column) for column in zip(*found, strict=True)] == counts
        return judgement

    def sleep_until(self, until_ns: int) -> None:
        """Let time pass as a good caller does: waking and settling whenever the join says."""
        while (wake_ns := self.join.next_wake_ns()) is not None and wake_ns <= until_ns:
            self.now_ns = max(self.now_ns, wake_ns)
            escalations = self.escalations
            left = self._settle_in_time() or self.escalations - escalations
            again = self.join.next_wake_ns()
            assert left or self.reference.held_back is not None, "woken for nothing"
            assert again is None or again > self.now_ns, "would be woken again at once"
        self.now_ns = until_ns
        self._settle_in_time()

    def _settle_in_time(self) -> int:
        config = self.reference.config
        before = self.reference.pending
        count = self.settle_all()
        never_waits = not config.in_order and config.ahead_bytes >= MOST_BYTES
        for row in before:
            deadline_ns = row.seen_ns + config.deadline_ns
            limit_ns = row.seen_ns + config.catch_up_limit_ns
            behind = row.behind_backlog and not never_waits
            own_ns = limit_ns if row.backlog or behind else deadline_ns
            assert not row.gone or self.now_ns <= own_ns, "left after its deadline"
        return count

    def finish(self) -> None:
        """Everything leaves in the end, exactly once and in order."""
        self.sleep_until(self.now_ns + 2 * self.reference.config.catch_up_limit_ns)
        expected = [r.offset for r in self.reference.rows if r.offset not in self.reference.earlier]
        found = self.emitted if self.reference.config.in_order else sorted(self.emitted)
        assert found == expected
        assert self.join.pending == self.join.span == 0
        self.judge()
        assert self.reference.judged == len(self.reference.rows)
        assert self.join.judge(self.now_ns) is None, "judged twice"


def _compare_settled(settled: Settled, rows: list[Row]) -> None:
    assert settled.numbers.tolist() == [row.number for row in rows]
    assert settled.hurried.tolist() == [row.hurried for row in rows]
    assert settled.offsets.tolist() == [row.offset for row in rows]
    assert settled.seen_ns.tolist() == [row.seen_ns for row in rows]
    assert settled.scoreable.tolist() == [row.scoreable for row in rows]
    assert settled.states.tolist() == [[state for state, _ in row.cells] for row in rows]
    for place, row in enumerate(rows):
        for member, (state, score) in enumerate(row.cells):
            if state == ANSWERED:
                assert settled.scores[place, member, 0] == score
    assert settled.reasons == {
        (place, member): why
        for place, row in enumerate(rows)
        for member, why in row.reasons.items()
    }


# -- schedules -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Events:
    """Events with gaps between their offsets; the first `backlog` of them lay there before."""

    gaps_and_scoreable: list[tuple[int, bool]]
    backlog: int


@dataclass(frozen=True)
class Frame:
    """Answers to events counted from the newest one: 0 is the newest, 1 comes next."""

    member: int
    answers: list[tuple[int, float, str]]


@dataclass(frozen=True)
class Pass:
    duration_ns: int


@dataclass(frozen=True)
class Expect:
    mask: int


@dataclass(frozen=True)
class Settle:
    """Let at most so many rows go, as a caller does who has other things to do."""

    limit: int


@dataclass(frozen=True)
class Judge:
    pass


@dataclass(frozen=True)
class Schedule:
    members: int
    remembered: int
    stall_ns: int
    prompt: bool  # whether the caller settles after each step and wakes when told
    in_order: bool
    ahead_bytes: int
    gone: frozenset[int]  # offsets that left in an earlier life
    share: float  # of the weight that is a quorum; 0 is none
    heavy: frozenset[int]  # members that are asked where the others are uncertain
    steps: list[Events | Frame | Pass | Expect | Settle | Judge]


DEADLINE_NS, STALL_NS, LIMIT_NS = 100, 40, 350


def config(members: int, **others: Any) -> JoinConfig:
    usual = {"stall_ns": STALL_NS, "initial_rows": SMALL_ROWS}
    return JoinConfig(members, DEADLINE_NS, catch_up_limit_ns=LIMIT_NS, **{**usual, **others})


@st.composite
def schedules(draw: st.DrawFn, *, cascade: bool = False) -> Schedule:
    members = draw(st.integers(2 if cascade else 1, 3))
    everybody = set(range(members))
    some = st.frozensets(st.sampled_from(sorted(everybody)), min_size=1, max_size=members - 1)
    scores = st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.25, 1.0, -3.5]))
    reasons = st.sampled_from(["", "", "too big", "no"])
    member = st.integers(0, members - 1)
    runs = st.builds(
        lambda member, start, count, score: Frame(
            member, [(start + i, score, "") for i in range(count)]
        ),
        member, st.integers(-12, 1), st.integers(1, 12), scores,
    )  # fmt: skip
    steps = st.one_of(
        st.builds(
            Events,
            st.lists(
                st.tuples(
                    st.sampled_from([0, 0, 0, 1, 3]), st.sampled_from([True, True, True, False])
                ),
                min_size=1,
                max_size=9,
            ),
            st.sampled_from([0, 0, 2, 9]),
        ),
        runs,
        st.builds(
            Frame,
            member,
            st.lists(st.tuples(st.integers(-9, 6), scores, reasons), min_size=1, max_size=8),
        ),
        st.builds(
            Pass, st.sampled_from([0, 1, 13, STALL_NS, DEADLINE_NS - 1, DEADLINE_NS, LIMIT_NS])
        ),
        st.builds(Expect, st.integers(0, 2**members - 1)),
        st.builds(Settle, st.integers(1, 4)),
        st.just(Judge()),
    )
    return Schedule(
        members,
        draw(st.sampled_from([0, 3, 4096])),
        # Backlog that is patient for longer than a deadline is met by what comes behind it.
        draw(st.sampled_from([STALL_NS, 2 * DEADLINE_NS + STALL_NS])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([11, 13, MOST_BYTES])),
        draw(st.sampled_from([frozenset(), frozenset(), frozenset({0, 3, 4, 9})])),
        0.0 if cascade else draw(st.sampled_from([0.0, 0.0, 0.4, 0.7])),
        draw(some) if cascade else frozenset(),
        draw(st.lists(steps, min_size=1, max_size=30)),
    )


def play(schedule: Schedule, join_class: type[DeadlineJoin] = DeadlineJoin) -> CheckedJoin:
    """Run a schedule; an AssertionError says that join and reference differ."""
    checked = CheckedJoin(
        config(
            schedule.members,
            remembered=schedule.remembered,
            stall_ns=schedule.stall_ns,
            in_order=schedule.in_order,
            ahead_bytes=schedule.ahead_bytes,
        ),
        [True] * schedule.members,
        join_class,
        sorted(schedule.gone),
        schedule.share,
        sorted(schedule.heavy),
    )
    for step in schedule.steps:
        _step(checked, step, prompt=schedule.prompt)
        if schedule.prompt:
            checked.sleep_until(checked.now_ns)
    checked.finish() if schedule.prompt else checked.settle_all()
    return checked


def _step(checked: CheckedJoin, step: object, *, prompt: bool) -> None:
    last = checked.reference.last_offset
    match step:
        case Events(gaps_and_scoreable, backlog):
            events: list[tuple[int, bool]] = []
            for gap, scoreable in gaps_and_scoreable:
                last += 1 + gap
                events.append((last, scoreable))
            below = [offset for offset, _ in events][:backlog]
            checked.add_events(events, below[-1] + 1 if below else 0)
        case Frame(member, answers):
            named = [(last + away, score, why) for away, score, why in answers]
            if known := [answer for answer in named if answer[0] >= 0]:
                checked.add_answers(member, known)
        case Pass(duration_ns) if prompt:
            checked.sleep_until(checked.now_ns + duration_ns)
        case Pass(duration_ns):
            checked.now_ns += duration_ns
        case Expect(mask):
            members = checked.reference.config.members
            checked.set_expected([bool(mask >> member & 1) for member in range(members)])
        case Settle(limit):
            checked.settle(limit)
        case Judge():
            checked.judge()
