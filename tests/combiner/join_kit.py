"""What the join must do, said slowly: a reference made of lists and loops, and a checker.

`ReferenceJoin` takes one event and one answer at a time. `CheckedJoin` hands everything to a join
and to the reference and compares all that can be seen from outside after each step. `play` runs a
schedule, which is plain data, so that Hypothesis can make and shrink it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from combiner import join as join_module
from combiner.answers import Answers, Cells, Judgement
from combiner.join import DeadlineJoin, JoinConfig
from combiner.settled import ANSWERED, REFUSED, WAITING, Settled

START_NS = 1_000_000
# Few rows at the start, so that short schedules move and grow the arrays many times.
SMALL_ROWS = 8

Answer = tuple[int, float, str]  # offset, score (NaN refuses), reason (empty is none)


@dataclass
class Row:
    offset: int
    seen_ns: int
    due_ns: int
    backlog: bool
    scoreable: bool
    behind_backlog: bool
    cells: list[tuple[int, float]]
    reasons: dict[int, str] = field(default_factory=dict)
    records: list[int] = field(default_factory=list)


@dataclass
class Held:
    """A frame, or what is left of it, that came before its events."""

    member: int
    record: int
    answers: list[Answer]


class ReferenceJoin:
    """Rows are never moved or dropped; `left` and `judged` count those at the front."""

    def __init__(self, config: JoinConfig, expected: list[bool]) -> None:
        self.config = config
        self.expected = list(expected)
        self.progress_ns = [0] * config.members
        self.rows: list[Row] = []
        self.left = 0
        self.judged = 0
        self.forgotten = 0
        self.held: list[Held] = []

    @property
    def last_offset(self) -> int:
        return self.rows[-1].offset if self.rows else -1

    @property
    def pending(self) -> list[Row]:
        return self.rows[self.left :]

    def add_events(
        self, events: list[tuple[int, bool]], backlog_below: int, now_ns: int
    ) -> Answers:
        if not self.pending:
            self.progress_ns = [max(before, now_ns) for before in self.progress_ns]
        for offset, scoreable in events:
            backlog = offset < backlog_below
            limit = self.config.catch_up_limit_ns if backlog else self.config.deadline_ns
            self.rows.append(
                Row(
                    offset,
                    now_ns,
                    now_ns + limit,
                    backlog,
                    scoreable,
                    any(row.backlog for row in self.pending),
                    [(WAITING if scoreable else REFUSED, math.nan)] * self.config.members,
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
        if row.cells[member][0] != WAITING:
            result.duplicate += 1
            return
        row.cells[member] = (REFUSED if math.isnan(score) else ANSWERED, score)
        row.records.append(record)
        result.filled += 1
        result.latency_ns += now_ns - row.seen_ns
        if places[0] < self.left:
            result.late += 1
        elif math.isnan(score) and reason:
            row.reasons[member] = reason

    def waiting_for(self, row: Row) -> list[int]:
        return [
            member
            for member, (state, _) in enumerate(row.cells)
            if self.expected[member] and state == WAITING
        ]

    def leaves_at(self, row: Row) -> int | None:
        """When a row is through, if nothing more comes; None is at once."""
        waiting = self.waiting_for(row)
        if not waiting:
            return None
        if not row.backlog:
            return row.due_ns
        stalls = [max(self.progress_ns[m], row.seen_ns) + self.config.stall_ns for m in waiting]
        return min(row.due_ns, max(stalls))

    def settle(self, now_ns: int, limit: int) -> list[Row]:
        rows: list[Row] = []
        for row in self.pending[:limit]:
            at = self.leaves_at(row)
            if at is not None and at > now_ns:
                break
            if row.backlog:
                row.due_ns = now_ns
            rows.append(row)
        self.left += len(rows)
        return rows

    def next_wake_ns(self) -> int | None:
        if not self.pending:
            return None
        return self.leaves_at(self.pending[0]) or 0

    def judge(self, now_ns: int) -> tuple[list[list[int]], int]:
        """For each member how many answered, refused, missed; and how many rows were judged."""
        counts = [[0, 0, 0] for _ in range(self.config.members)]
        before = self.judged
        while self.judged < self.left and self.rows[self.judged].due_ns <= now_ns:
            row = self.rows[self.judged]
            for member, (state, _) in enumerate(row.cells):
                if row.scoreable:
                    counts[member][(ANSWERED, REFUSED, WAITING).index(state)] += 1
            self.judged += 1
        return counts, self.judged - before

    def lowest_record(self) -> int | None:
        records = [record for row in self.pending for record in row.records]
        return min(records + [held.record for held in self.held], default=None)


class CheckedJoin:
    """A join that is compared with the reference after every step."""

    def __init__(
        self, config: JoinConfig, expected: list[bool], join_class: type[DeadlineJoin]
    ) -> None:
        self.now_ns = START_NS
        self.records = 0
        self.emitted: list[int] = []
        self.join = join_class(config, np.array(expected))
        self.reference = ReferenceJoin(config, expected)

    def compare(self) -> None:
        join, reference = self.join, self.reference
        pending = reference.pending
        assert join.pending == len(pending)
        assert join.early == sum(len(held.answers) for held in reference.held)
        assert join.last_offset == reference.last_offset
        assert join.lowest_pending() == (pending[0].offset if pending else None)
        assert join.lowest_record() == reference.lowest_record()
        assert join.next_wake_ns() == reference.next_wake_ns()

    def add_events(self, events: list[tuple[int, bool]], backlog_below: int = 0) -> Answers:
        offsets = np.array([offset for offset, _ in events], dtype=np.int64)
        scoreable = np.array([good for _, good in events], dtype=np.bool_)
        answers = self.join.add_events(offsets, scoreable, backlog_below, self.now_ns)
        # What the join has dropped is its own choice, within what `remembered` promises.
        forgotten = self.join._base + self.join._first
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
        assert found == self.reference.add_answers(member, answers, self.records, self.now_ns)
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
        first = self.reference.left
        settled = self.join.settle(self.now_ns, limit)
        rows = self.reference.settle(self.now_ns, limit)
        if settled is None:
            assert not rows
        else:
            _compare_settled(settled, rows, first)
            self.emitted += settled.offsets.tolist()
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
        assert (judgement is not None) == bool(judged)
        if judgement is not None:
            found = [judgement.answered, judgement.refused, judgement.missed]
            assert [list(column) for column in zip(*found, strict=True)] == counts
        return judgement

    def sleep_until(self, until_ns: int) -> None:
        """Let time pass as a good caller does: waking and settling whenever the join says."""
        while (wake_ns := self.join.next_wake_ns()) is not None and wake_ns <= until_ns:
            self.now_ns = max(self.now_ns, wake_ns)
            left = self._settle_in_time()
            again = self.join.next_wake_ns()
            assert left, "woken for nothing"
            assert again is None or again > self.now_ns, "would be woken again at once"
        self.now_ns = until_ns
        self._settle_in_time()

    def _settle_in_time(self) -> int:
        first = self.reference.left
        count = self.settle_all()
        for row in self.reference.rows[first : first + count]:
            deadline_ns = row.seen_ns + self.reference.config.deadline_ns
            limit_ns = row.seen_ns + self.reference.config.catch_up_limit_ns
            own_ns = limit_ns if row.backlog or row.behind_backlog else deadline_ns
            assert self.now_ns <= own_ns, "left after its deadline"
        return count

    def finish(self) -> None:
        """Everything leaves in the end, exactly once and in order."""
        self.sleep_until(self.now_ns + 2 * self.reference.config.catch_up_limit_ns)
        assert self.emitted == [row.offset for row in self.reference.rows]
        assert self.join.lowest_pending() is None
        self.judge()
        assert self.reference.judged == len(self.reference.rows)
        assert self.join.judge(self.now_ns) is None, "judged twice"


def _compare_settled(settled: Settled, rows: list[Row], first: int) -> None:
    assert settled.sequence == first
    assert settled.offsets.tolist() == [row.offset for row in rows]
    assert settled.seen_ns.tolist() == [row.seen_ns for row in rows]
    assert settled.scoreable.tolist() == [row.scoreable for row in rows]
    assert settled.states.tolist() == [[state for state, _ in row.cells] for row in rows]
    for place, row in enumerate(rows):
        for member, (state, score) in enumerate(row.cells):
            if state == ANSWERED:
                assert settled.scores[place, member] == score
    assert settled.reasons == {
        (place, member): why
        for place, row in enumerate(rows)
        for member, why in row.reasons.items()
    }


@contextmanager
def small_arrays() -> Iterator[None]:
    with mock.patch.object(join_module, "_INITIAL_ROWS", SMALL_ROWS):
        yield


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
    prompt: bool  # whether the caller settles after each step and wakes when told
    steps: list[Events | Frame | Pass | Expect | Settle | Judge]


DEADLINE_NS, STALL_NS, LIMIT_NS = 100, 40, 350


def config(members: int, remembered: int = 4096) -> JoinConfig:
    return JoinConfig(members, DEADLINE_NS, STALL_NS, LIMIT_NS, remembered)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    members = draw(st.integers(1, 3))
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
        draw(st.booleans()),
        draw(st.lists(steps, min_size=1, max_size=30)),
    )


def play(schedule: Schedule, join_class: type[DeadlineJoin] = DeadlineJoin) -> CheckedJoin:
    """Run a schedule; an AssertionError says that join and reference differ."""
    with small_arrays():
        checked = CheckedJoin(
            config(schedule.members, schedule.remembered), [True] * schedule.members, join_class
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
