"""The deadline join: against the reference under any schedule, and rule by rule."""

import math

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

from combiner.ahead import MOST_BYTES, NONE, Runs, runs_of
from combiner.answers import Answers, Cells, EarlyAnswers
from combiner.join import _FOREVER, Bools, DeadlineJoin, Ints
from combiner.limits import JoinConfig
from combiner.settled import ANSWERED, REFUSED, WAITING, Settled
from combiner.verdicts import Judgement
from tests.combiner.join_kit import (
    DEADLINE_NS,
    LIMIT_NS,
    STALL_NS,
    START_NS,
    CheckedJoin,
    Schedule,
    config,
    play,
    schedules,
)

NAN = math.nan


def opened(members: int = 2, expected: list[bool] | None = None) -> CheckedJoin:
    """A checked join of its own; the reference watches the named tests as well."""
    return CheckedJoin(config(members), expected or [True] * members, DeadlineJoin)


def good(*offsets: int) -> list[tuple[int, bool]]:
    return [(offset, True) for offset in offsets]


def answers(score: float, *offsets: int, why: str = "") -> list[tuple[int, float, str]]:
    return [(offset, score, why) for offset in offsets]


# -- any schedule ----------------------------------------------------------------------------


@settings(max_examples=400, derandomize=True)
@given(schedules())
def test_the_join_does_what_the_reference_does(schedule: Schedule) -> None:
    play(schedule)


# -- the checker can fail --------------------------------------------------------------------


class OneRowTooMany(DeadlineJoin):
    """A row goes with the one before it."""

    def _leaves(self, rows: slice, now_ns: int) -> Bools:
        leaves = super()._leaves(rows, now_ns)
        leaves[1:] |= leaves[:-1].copy()
        return leaves


class DeadlineLate(DeadlineJoin):
    """Lets a row go one nanosecond after its time, and says so to the caller."""

    def settle(self, now_ns: int, limit: int = 8192) -> Settled | None:
        return super().settle(now_ns - 1, limit)

    def next_wake_ns(self) -> int | None:
        wake_ns = super().next_wake_ns()
        return wake_ns + 1 if wake_ns else wake_ns


class WokenForNothing(DeadlineJoin):
    """Wants to be woken a little too soon."""

    def next_wake_ns(self) -> int | None:
        wake_ns = super().next_wake_ns()
        return wake_ns - 1 if wake_ns else wake_ns


class LastAnswerHolds(DeadlineJoin):
    """A duplicate overwrites."""

    def _fill(
        self, member: int, rows: slice | Ints, cells: Cells, now_ns: int, answers: Answers
    ) -> None:
        super()._fill(member, rows, cells, now_ns, answers)
        self._rows.scores[member, 0, rows] = cells.scores


class HoldsNothing(EarlyAnswers):
    def hold(self, member: int, cells: Cells) -> None:
        pass


class EarlyAnswersDropped(DeadlineJoin):
    """Nothing is held for events that have not come."""

    def __init__(self, config: JoinConfig, expected: Bools) -> None:
        super().__init__(config, expected)
        self._early = HoldsNothing()


class JudgedWhenSettled(DeadlineJoin):
    """Does not wait for the deadline before it judges."""

    def judge(self, now_ns: int) -> Judgement | None:
        return super().judge(_FOREVER)


class AllJudgedAtTheDeadline(DeadlineJoin):
    """Lets models that nobody waits for wait for their verdicts."""

    def judge(self, now_ns: int) -> Judgement | None:
        self._verdicts.heed(np.ones_like(self._expected))
        return super().judge(now_ns)


class JudgedTwice(DeadlineJoin):
    """Forgets at the deadline who was judged before it."""

    def judge(self, now_ns: int) -> Judgement | None:
        self._verdicts._ahead[:] = 0
        return super().judge(now_ns)


class RecordsForgotten(DeadlineJoin):
    """Says that no held answer needs its record again."""

    def lowest_record(self) -> int | None:
        early, self._early = self._early, EarlyAnswers()
        lowest = super().lowest_record()
        self._early = early
        return lowest


class BacklogLikeFresh(DeadlineJoin):
    """Gives the backlog the deadline of fresh events."""

    def add_events(
        self, offsets: Ints, scoreable: Bools, backlog_below: int, now_ns: int
    ) -> Answers:
        return super().add_events(offsets, scoreable, 0, now_ns)


class MemoryCutShort(DeadlineJoin):
    """Forgets rows that were not judged."""

    def add_events(
        self, offsets: Ints, scoreable: Bools, backlog_below: int, now_ns: int
    ) -> Answers:
        if self._rows.tail + len(offsets) > self._rows.capacity:
            self._rows.judged = self._rows.head
        return super().add_events(offsets, scoreable, backlog_below, now_ns)


class AllowsAnyList(DeadlineJoin):
    """Holds nothing back, however long the list of what left ahead."""

    def __init__(self, config: JoinConfig, expected: Bools) -> None:
        super().__init__(config, expected)
        self._overtaking._most_bytes = MOST_BYTES


class EarlierLifeForgotten(DeadlineJoin):
    """Lets leave again what left in an earlier life."""

    def skip(self, gone: Runs) -> None:
        pass


class EarlierLifeNotPassedOn(DeadlineJoin):
    """Skips it, and says nothing of what it has not seen again yet."""

    def position(self) -> tuple[int, Runs] | None:
        found = super().position()
        return found and (found[0], runs_of(*self._gone()))

    def _gone(self) -> tuple[Bools, Ints]:
        rows = self._rows
        return rows.gone[rows.head : rows.tail], rows.offsets[rows.head : rows.tail]


class QuorumIsEverything(DeadlineJoin):
    """Takes a quorum for a full set of answers."""

    def _done(self, which: slice | Ints, now_ns: int) -> Bools:
        done = super()._done(which, now_ns)
        return done if self.config.quorum is None else done | self._rows.met[which]


@pytest.mark.parametrize(
    "broken",
    [
        OneRowTooMany,
        DeadlineLate,
        WokenForNothing,
        LastAnswerHolds,
        EarlyAnswersDropped,
        JudgedWhenSettled,
        AllJudgedAtTheDeadline,
        JudgedTwice,
        RecordsForgotten,
        BacklogLikeFresh,
        MemoryCutShort,
        AllowsAnyList,
        EarlierLifeForgotten,
        EarlierLifeNotPassedOn,
        QuorumIsEverything,
    ],
)
def test_a_broken_join_is_caught(broken: type[DeadlineJoin]) -> None:
    def caught(schedule: Schedule) -> bool:
        try:
            play(schedule, broken)
        except AssertionError:
            return True
        return False

    budget = settings(max_examples=2000, derandomize=True, database=None, phases=[Phase.generate])
    find(schedules(), caught, settings=budget)  # raises NoSuchExample when nothing was caught


# -- rule 1: a cell is filled at most once ---------------------------------------------------


def test_a_repeated_answer_is_a_duplicate_and_changes_nothing() -> None:
    join = opened()
    join.add_events(good(10))
    assert join.add_answers(0, answers(0.25, 10)).filled == 1
    again = join.add_answers(0, answers(0.75, 10))
    assert (again.filled, again.duplicate) == (0, 1)
    join.add_answers(1, answers(0.5, 10))
    settled = join.settle()
    assert settled is not None
    assert settled.scores[:, :, 0].tolist() == [[0.25, 0.5]]


def test_of_two_answers_to_one_event_in_one_frame_the_first_holds() -> None:
    join = opened(1)
    join.add_events(good(10, 11))
    found = join.add_answers(0, [(11, 0.1, ""), (10, 0.2, ""), (11, 0.9, "")])
    assert (found.filled, found.duplicate) == (2, 1)
    settled = join.settle()
    assert settled is not None
    assert settled.scores[:, :, 0].tolist() == [[0.2], [0.1]]


def test_a_refusal_is_an_answer_that_nobody_waits_for_any_more() -> None:
    join = opened(1)
    join.add_events(good(10))
    join.add_answers(0, answers(NAN, 10, why="amount is negative"))
    assert join.add_answers(0, answers(0.5, 10)).duplicate == 1
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[REFUSED]]
    assert settled.reasons == {(0, 0): "amount is negative"}


def test_answers_to_offsets_that_hold_no_event_are_unknown() -> None:
    join = opened(1)
    join.add_events(good(10, 12))
    found = join.add_answers(0, answers(0.5, 3, 11, 12))
    assert (found.filled, found.unknown) == (1, 2)


def test_the_reasons_follow_their_cells_through_unsorted_frames_with_gaps() -> None:
    join = opened(1)
    join.add_events(good(10, 12, 14))
    join.add_answers(0, [(14, NAN, "c"), (11, NAN, "?"), (10, NAN, "a"), (12, 0.5, "")])
    settled = join.settle()
    assert settled is not None
    assert settled.reasons == {(0, 0): "a", (2, 0): "c"}


def test_a_reason_beside_a_score_is_ignored_and_forgotten() -> None:
    """Anybody may write frames; what nobody will ever read must not pile up."""
    join = opened(1)
    join.add_events(good(10))
    join.add_answers(0, answers(0.5, 10, why="not quite sure"))
    settled = join.settle()
    assert settled is not None
    assert settled.reasons == {}
    assert not join.join._reasons


# -- rule 2: when a row settles --------------------------------------------------------------


def test_a_row_leaves_at_once_when_the_last_expected_model_has_answered() -> None:
    join = opened()
    join.add_events(good(10))
    join.add_answers(0, answers(0.5, 10))
    assert join.settle() is None
    join.add_answers(1, answers(0.5, 10))
    assert join.join.next_wake_ns() == 0
    assert join.settle_all() == 1


def test_a_fresh_row_leaves_at_its_deadline_and_not_a_moment_before() -> None:
    join = opened()
    join.add_events(good(10))
    assert join.join.next_wake_ns() == START_NS + DEADLINE_NS
    join.now_ns = START_NS + DEADLINE_NS - 1
    assert join.settle() is None
    join.now_ns += 1
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[WAITING, WAITING]]


def test_answers_do_not_move_the_deadline_of_a_fresh_row() -> None:
    join = opened()
    join.add_events(good(10))
    join.now_ns += DEADLINE_NS - 1
    join.add_answers(0, answers(0.5, 10))
    assert join.join.next_wake_ns() == START_NS + DEADLINE_NS


def test_nobody_waits_for_a_model_that_is_not_expected_but_its_answer_counts() -> None:
    join = opened(2, [True, False])
    join.add_events(good(10, 11))
    join.add_answers(1, answers(0.9, 10))
    assert join.settle() is None
    join.add_answers(0, answers(0.5, 10, 11))
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[ANSWERED, ANSWERED], [ANSWERED, WAITING]]


def test_without_any_expected_model_rows_leave_at_once() -> None:
    join = opened(2, [False, False])
    join.add_events(good(10))
    assert join.settle_all() == 1


def test_pending_rows_stop_waiting_for_a_model_that_is_given_up() -> None:
    join = opened()
    join.add_events(good(10))
    join.add_answers(0, answers(0.5, 10))
    join.set_expected([True, False])
    assert join.settle_all() == 1


def test_pending_rows_wait_again_for_a_model_that_is_back() -> None:
    join = opened(2, [True, False])
    join.add_events(good(10))
    join.set_expected([True, True])
    join.add_answers(0, answers(0.5, 10))
    assert join.settle() is None


def test_a_backlog_row_waits_as_long_as_the_missing_model_moves() -> None:
    join = opened(1)
    join.add_events(good(*range(10, 20)), backlog_below=100)
    for offset in range(10, 15):
        join.sleep_until(join.now_ns + STALL_NS - 1)
        join.add_answers(0, answers(0.5, offset))
        assert join.settle_all() == 1
    assert join.now_ns > START_NS + DEADLINE_NS
    assert join.join.next_wake_ns() == join.now_ns + STALL_NS
    join.sleep_until(join.now_ns + STALL_NS)
    assert join.join.pending == 0


def test_after_a_start_backlog_waits_patiently_for_the_first_answer_of_any_model() -> None:
    """From then on the others have the usual time to make progress."""
    tuned = JoinConfig(2, 100, stall_ns=50, catch_up_limit_ns=10_000, patient_until_ns=2000)

    def left(join: DeadlineJoin, now_ns: int) -> int:
        return sum(len(settled) for settled in [join.settle(now_ns)] if settled is not None)

    offsets = np.arange(3, dtype=np.int64)
    patient, answered = (DeadlineJoin(tuned, np.ones(2, dtype=np.bool_)) for _ in range(2))
    for join in (patient, answered):
        join.add_events(offsets, np.ones(3, dtype=np.bool_), 3, now_ns=1000)
        assert left(join, 1999) == 0
    assert patient.next_wake_ns() == 2050
    assert left(patient, 2049) == 0
    assert left(patient, 2050) == 3
    cells = Cells(offsets, np.full(3, 0.5), record=0)
    answered.add_answers(0, cells, now_ns=1500)
    assert answered.next_wake_ns() == 1550
    assert left(answered, 1549) == 0
    assert left(answered, 1550) == 3


def test_a_model_that_moves_does_not_keep_a_row_it_has_answered_already() -> None:
    join = opened()
    join.add_events(good(10, 11), backlog_below=100)
    join.add_answers(0, answers(0.5, 10))
    join.now_ns += STALL_NS - 1
    join.add_answers(0, answers(0.5, 11))
    join.now_ns += 1
    assert join.settle_all() == 2, "both wait for the second model only, and it stands still"


def test_a_backlog_row_leaves_at_the_limit_however_busy_the_model_is() -> None:
    join = opened(1)
    join.add_events(good(10, 11), backlog_below=100)
    while join.now_ns < START_NS + LIMIT_NS - 10:
        join.now_ns += 10
        join.add_answers(0, answers(0.5, 11))
        assert join.settle() is None
    assert join.join.next_wake_ns() == START_NS + LIMIT_NS
    join.sleep_until(START_NS + LIMIT_NS)
    assert join.emitted == [10, 11]


def test_a_model_that_had_nothing_to_do_has_not_stood_still() -> None:
    join = opened(1)
    join.add_events(good(10), backlog_below=100)
    join.add_answers(0, answers(0.5, 10))
    join.settle_all()
    join.now_ns += 50 * STALL_NS
    join.add_events(good(11), backlog_below=100)
    assert join.join.next_wake_ns() == join.now_ns + STALL_NS
    assert join.settle() is None


# -- rule 3: in order ------------------------------------------------------------------------


def test_a_row_that_is_done_stays_behind_an_earlier_one_that_is_not() -> None:
    join = opened(1)
    join.add_events(good(10, 11, 12))
    join.add_answers(0, answers(0.5, 11, 12))
    assert join.settle() is None
    join.add_answers(0, answers(0.5, 10))
    settled = join.settle()
    assert settled is not None
    assert settled.offsets.tolist() == [10, 11, 12]


def test_order_comes_before_the_deadline_of_a_fresh_row_behind_backlog() -> None:
    """The one case in which a row is held past its own deadline; bounded by the limit."""
    join = opened(1)
    join.add_events(good(10), backlog_below=11)
    join.add_events(good(11))
    while join.now_ns < START_NS + 2 * DEADLINE_NS:
        join.sleep_until(join.now_ns + STALL_NS - 1)
        join.add_answers(0, answers(0.5, 11))
    assert join.emitted == []
    join.add_answers(0, answers(0.5, 10))
    assert join.settle_all() == 2


def behind_backlog() -> CheckedJoin:
    """10 is backlog and has waited for a deadline, as the model is still far behind; 11 comes."""
    join = opened(1)
    join.add_events(good(10), backlog_below=11)
    while join.now_ns < START_NS + DEADLINE_NS:
        join.sleep_until(join.now_ns + STALL_NS - 1)
        join.add_answers(0, answers(0.5, 9))
    join.add_events(good(11))
    return join


def test_who_comes_behind_late_backlog_waits_for_its_models_as_that_does() -> None:
    join = behind_backlog()
    came_ns = join.now_ns
    while join.now_ns <= came_ns + DEADLINE_NS:
        join.sleep_until(join.now_ns + STALL_NS - 1)
        join.add_answers(0, answers(0.5, 9))
    join.add_answers(0, answers(0.5, 10))
    assert join.settle_all() == 1
    assert join.join.next_wake_ns() == join.now_ns + STALL_NS
    join.add_answers(0, answers(0.5, 11))
    assert join.settle_all() == 1


def test_it_waits_no_longer_than_what_it_stands_behind() -> None:
    join = behind_backlog()
    while join.now_ns < START_NS + LIMIT_NS - STALL_NS:
        join.sleep_until(join.now_ns + STALL_NS - 1)
        join.add_answers(0, answers(0.5, 9))
    join.add_answers(0, answers(0.5, 10))
    assert join.settle_all() == 1
    join.add_answers(0, answers(0.5, 9))
    assert join.join.next_wake_ns() == START_NS + LIMIT_NS


def test_but_nobody_is_given_up_for_it_before_its_own_deadline() -> None:
    join = behind_backlog()
    came_ns = join.now_ns
    assert DEADLINE_NS > STALL_NS
    join.sleep_until(came_ns + DEADLINE_NS - 1)
    assert join.emitted == [10], "the model stands still"
    join.sleep_until(came_ns + DEADLINE_NS)
    assert join.emitted == [10, 11]


def test_who_comes_behind_backlog_that_is_not_late_is_fresh() -> None:
    join = opened(1)
    join.add_events(good(10), backlog_below=11)
    join.sleep_until(START_NS + STALL_NS - 1)
    join.add_events(good(11))
    join.add_answers(0, answers(0.5, 10))
    assert join.settle_all() == 1
    assert join.join.next_wake_ns() == join.now_ns + DEADLINE_NS


def test_rows_that_came_together_leave_together_at_the_deadline() -> None:
    join = opened(1)
    join.add_events(good(10, 11))
    join.now_ns += 1
    join.add_events(good(12))
    join.now_ns = START_NS + DEADLINE_NS
    settled = join.settle()
    assert settled is not None
    assert settled.offsets.tolist() == [10, 11]
    assert join.join.next_wake_ns() == START_NS + DEADLINE_NS + 1


def test_a_limit_lets_part_of_the_rows_go_and_the_rest_next_time() -> None:
    join = opened(1, [False])
    join.add_events(good(*range(5)))
    sizes = []
    while (settled := join.settle(limit=2)) is not None:
        sizes.append((int(settled.numbers[0]), len(settled)))
    assert sizes == [(0, 2), (2, 2), (4, 1)]


def test_what_has_left_is_not_changed_by_later_answers() -> None:
    join = opened(1)
    join.add_events(good(10))
    join.now_ns += DEADLINE_NS
    settled = join.settle()
    assert settled is not None
    join.add_answers(0, answers(0.5, 10))
    assert settled.states.tolist() == [[WAITING]]


# -- rule 4: settled rows are remembered and judged ------------------------------------------


def test_a_model_is_judged_at_the_deadline_and_not_when_the_row_settled() -> None:
    join = opened(2)
    join.add_events(good(10))
    join.add_answers(0, answers(0.5, 10))
    join.add_answers(1, answers(0.5, 10))
    assert join.settle_all() == 1
    assert join.judge() is None
    join.now_ns += DEADLINE_NS
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [1, 1]
    assert join.judge() is None


def test_a_model_that_nobody_waits_for_is_judged_as_soon_as_it_answers() -> None:
    join = opened(2, [True, False])
    join.add_events(good(10, 11, 12))
    join.add_answers(0, answers(0.5, 10, 11, 12))
    assert join.settle_all() == 3
    assert join.judge() is None
    late = join.add_answers(1, answers(0.5, 10))
    assert (late.filled, late.late) == (1, 1), "too late for the score, in time for the verdict"
    join.add_answers(1, answers(0.5, 12))
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [0, 1], "row after row: of the second nothing is known"
    join.now_ns += DEADLINE_NS
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [3, 1]
    assert judgement.missed.tolist() == [0, 1]
    assert join.judge() is None


def test_a_model_that_is_waited_for_again_is_not_judged_twice() -> None:
    join = opened(2, [True, False])
    join.add_events(good(10, 11))
    for member in range(2):
        join.add_answers(member, answers(0.5, 10))
    assert join.settle_all() == 1
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [0, 1]
    join.set_expected([True, True])
    assert join.judge() is None
    join.now_ns += DEADLINE_NS
    assert join.settle_all() == 1
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [1, 0]
    assert judgement.missed.tolist() == [1, 1]


def test_answers_refusals_and_silence_are_told_apart() -> None:
    join = opened(3)
    join.add_events(good(10))
    join.add_answers(0, answers(0.5, 10))
    join.add_answers(1, answers(NAN, 10))
    join.now_ns += DEADLINE_NS
    join.settle_all()
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [1, 0, 0]
    assert judgement.refused.tolist() == [0, 1, 0]
    assert judgement.missed.tolist() == [0, 0, 1]


def test_a_backlog_row_is_judged_as_it_leaves() -> None:
    join = opened(1)
    join.add_events(good(10), backlog_below=100)
    join.add_answers(0, answers(0.5, 10))
    join.settle_all()
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [1]


def test_nobody_is_judged_by_an_event_that_cannot_be_scored() -> None:
    join = opened(1)
    join.add_events([(10, False), (11, True)])
    join.now_ns += DEADLINE_NS
    join.settle_all()
    judgement = join.judge()
    assert judgement is not None
    assert judgement.missed.tolist() == [1]


def test_the_latency_of_an_answer_runs_from_the_first_sight_of_its_event() -> None:
    join = opened(1)
    join.add_events(good(10, 11))
    join.now_ns += 30
    assert join.add_answers(0, answers(0.5, 10, 11)).latency_ns == 60


# -- rule 5: answers that overtake their events ----------------------------------------------


def test_an_early_answer_is_held_until_its_event_comes() -> None:
    join = opened(1)
    assert join.add_answers(0, answers(0.5, 11, 10)).early == 2
    assert join.join.early == 2
    found = join.add_events(good(10))
    assert (found.filled, found.early) == (1, 0)
    assert join.join.early == 1
    assert join.settle_all() == 1
    join.add_events(good(11))
    assert join.settle_all() == 1


def test_a_frame_may_be_partly_early() -> None:
    join = opened(1)
    join.add_events(good(10))
    found = join.add_answers(0, [(11, NAN, "late bloomer"), (10, 0.25, "")])
    assert (found.filled, found.early) == (1, 1)
    join.add_events(good(11))
    settled = join.settle()
    assert settled is not None
    assert settled.scores[0, :, 0].tolist() == [0.25]
    assert settled.reasons == {(1, 0): "late bloomer"}


@pytest.mark.parametrize("first", [(10, 12), (11, 12)])
@pytest.mark.parametrize("together", [True, False])
def test_of_early_answers_to_one_event_the_first_holds(
    first: tuple[int, int], together: bool
) -> None:
    join = opened(1)
    join.add_answers(0, answers(0.1, *first))
    join.add_answers(0, answers(0.9, 10, 12))
    for events in [good(10, 11, 12)] if together else [good(10), good(11), good(12)]:
        join.add_events(events)
    settled = join.settle()
    assert settled is not None
    assert settled.scores[-1, :, 0].tolist() == [0.1]


def test_early_answers_for_offsets_without_an_event_go_when_the_offset_has_passed() -> None:
    join = opened(1)
    join.add_answers(0, answers(0.5, 10, 11))
    assert join.add_events(good(12)).unknown == 2
    assert join.join.early == 0


# -- positions to restart from ---------------------------------------------------------------


def test_the_lowest_record_is_the_oldest_one_that_a_pending_event_was_answered_by() -> None:
    join = opened()
    assert join.join.lowest_record() is None
    join.add_events(good(10, 11))
    assert join.join.lowest_record() is None
    join.add_answers(0, answers(0.5, 11))  # record 0
    join.add_answers(0, answers(0.5, 10))  # record 1
    join.add_answers(1, answers(0.5, 10))  # record 2
    assert join.join.lowest_record() == 0
    assert join.settle_all() == 1
    assert join.join.position() == (11, NONE)
    join.add_answers(1, answers(0.5, 11))  # record 3
    assert join.settle_all() == 1
    assert join.join.lowest_record() is None


def test_a_held_answer_needs_its_record() -> None:
    join = opened(1)
    join.add_answers(0, answers(0.5, 10))
    assert join.join.lowest_record() == 0
    join.add_events(good(10))
    assert join.join.lowest_record() == 0
    join.settle_all()
    assert join.join.lowest_record() is None


# -- bad events ------------------------------------------------------------------------------


def test_an_event_that_cannot_be_scored_expects_nothing_and_keeps_its_place() -> None:
    join = opened(1)
    join.add_events([(10, True), (11, False), (12, True)])
    assert join.add_answers(0, answers(0.5, 11, 12)).duplicate == 1
    assert join.settle() is None
    join.add_answers(0, answers(0.5, 10))
    settled = join.settle()
    assert settled is not None
    assert settled.scoreable.tolist() == [True, False, True]


def test_a_bad_event_at_the_head_leaves_at_once() -> None:
    join = opened(1)
    join.add_events([(10, False)])
    assert join.join.next_wake_ns() == 0
    assert join.settle_all() == 1
    assert join.join.next_wake_ns() is None


# -- room, and what a caller must not do -----------------------------------------------------


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "never answered"])
def test_memory_is_bounded_by_what_is_pending_and_not_by_what_has_passed(answered: bool) -> None:
    batch, turns = 5000, 500
    deadline = 10
    join = DeadlineJoin(JoinConfig(2, deadline, 5, 50), np.array([True, True]))
    scoreable, scores = np.ones(batch, dtype=np.bool_), np.zeros(batch)
    left = 0
    capacities = set()
    for turn in range(turns):
        now_ns = turn * deadline
        offsets = np.arange(turn * batch, (turn + 1) * batch)
        join.add_events(offsets, scoreable, 0, now_ns)
        for member in range(2):
            if answered:
                join.add_answers(member, Cells(offsets, scores, turn, {0: "aside"}), now_ns)
        while (settled := join.settle(now_ns)) is not None:
            left += len(settled)
        join.judge(now_ns)
        capacities.add(join._rows.capacity)
    assert left >= (turns - 1) * batch
    assert max(capacities) <= 16 * batch


def test_reasons_of_rows_that_left_are_gone() -> None:
    join = opened(1)
    for offset in range(100):
        join.add_events(good(offset))
        join.add_answers(0, answers(NAN, offset, why="no"))
        join.settle_all()
        join.add_answers(0, answers(NAN, offset, why="again"))
    assert not join.join._reasons


@pytest.mark.parametrize("offsets", [[10], [9], [5, 20]])
def test_events_come_in_order_and_once(offsets: list[int]) -> None:
    join = opened(1)
    join.add_events(good(10))
    with pytest.raises(AssertionError, match="in order, each once"):
        join.join.add_events(np.array(offsets), np.ones(len(offsets), dtype=np.bool_), 0, START_NS)


def test_no_events_are_nothing() -> None:
    join = opened(1)
    none = np.empty(0, dtype=np.int64)
    assert join.join.add_events(none, none.astype(np.bool_), 0, START_NS) == Answers()
    assert join.join.next_wake_ns() is None


@pytest.mark.parametrize(
    ("members", "deadline_ns", "stall_ns", "limit_ns"),
    [(0, 1, 1, 1), (1, 0, 1, 1), (1, 2, 1, 1), (1, 1, 0, 1)],
)
def test_impossible_limits_are_refused(
    members: int, deadline_ns: int, stall_ns: int, limit_ns: int
) -> None:
    with pytest.raises(AssertionError):
        JoinConfig(members, deadline_ns, stall_ns, limit_ns)


def test_answers_of_several_classes_stay_whole() -> None:
    config = JoinConfig(2, 100, 1000, 10_000, columns=3, initial_rows=2)
    join = DeadlineJoin(config, np.ones(2, dtype=np.bool_))
    offsets = np.arange(6)
    answers = np.random.default_rng(1).dirichlet(np.ones(3), (2, 6))
    answers[1, 4] = np.nan
    early = np.array([5])
    join.add_answers(0, Cells(early, answers[0, early], 1), 0)
    join.add_events(offsets, np.ones(6, dtype=np.bool_), 0, 0)
    scattered = np.array([4, 0, 2])
    join.add_answers(0, Cells(np.arange(5), answers[0, :5], 2), 0)
    join.add_answers(1, Cells(scattered, answers[1, scattered], 3, {0: "too old"}), 0)
    rest = np.array([1, 3, 5, 0])
    found = join.add_answers(1, Cells(rest, answers[1, rest], 4), 0)
    assert (found.filled, found.duplicate) == (3, 1)
    settled = join.settle(0)
    assert settled is not None
    np.testing.assert_array_equal(settled.scores, answers.transpose(1, 0, 2))
    assert settled.states.tolist() == [[1, 2 if row == 4 else 1] for row in range(6)]
    assert settled.reasons == {(4, 1): "too old"}
