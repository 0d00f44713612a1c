"""The join of a cascade against its slow reference, and its rules one by one."""

import math

import numpy as np
import pytest
from hypothesis import find, given, settings

from combiner.answers import Cells
from combiner.escalating import EscalatingJoin
from combiner.rows import Ints
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, WAITING
from tests.combiner.join_kit import (
    DEADLINE_NS,
    LIMIT_NS,
    STALL_NS,
    CheckedJoin,
    Schedule,
    config,
    play,
    schedules,
)

CHEAP, HEAVY = 0, 1
CERTAIN, UNCERTAIN = 1.0, 0.25


def cascade(*, in_order: bool = True) -> CheckedJoin:
    return CheckedJoin(config(2, in_order=in_order), [True, True], EscalatingJoin, heavy=[HEAVY])


def answer(join: CheckedJoin, member: int, score: float, *offsets: int) -> None:
    join.add_answers(member, [(offset, score, "") for offset in offsets])


@settings(max_examples=300, deadline=None)
@given(schedules(cascade=True))
def test_it_does_what_the_slow_reference_does(schedule: Schedule) -> None:
    play(schedule, EscalatingJoin)


def test_schedules_escalate_and_do_not() -> None:
    def both(schedule: Schedule) -> bool:
        played = play(schedule, EscalatingJoin)
        return played.escalations > 0 and any(row.asked for row in played.reference.rows)

    find(schedules(cascade=True), both)


def test_certain_rows_leave_without_the_heavy_model() -> None:
    join = cascade()
    join.add_events([(0, True), (1, True)])
    answer(join, CHEAP, CERTAIN, 0, 1)
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[ANSWERED, NOT_ASKED]] * 2
    assert join.escalations == 0


def test_uncertain_rows_wait_for_the_heavy_model() -> None:
    join = cascade()
    join.add_events([(0, True), (1, True)])
    answer(join, CHEAP, UNCERTAIN, 0)
    answer(join, CHEAP, CERTAIN, 1)
    assert join.settle() is None
    assert join.escalations == 1
    answer(join, HEAVY, 0.5, 0)
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[ANSWERED, ANSWERED], [ANSWERED, NOT_ASKED]]


def test_where_rows_may_overtake_the_certain_one_leaves_at_once() -> None:
    join = cascade(in_order=False)
    join.add_events([(0, True), (1, True)])
    answer(join, CHEAP, UNCERTAIN, 0)
    answer(join, CHEAP, CERTAIN, 1)
    settled = join.settle()
    assert settled is not None
    assert settled.offsets.tolist() == [1]


def test_the_deadline_is_one_and_what_was_not_asked_costs_no_health() -> None:
    join = cascade()
    join.add_events([(0, True), (1, True)])
    answer(join, CHEAP, UNCERTAIN, 0)
    join.settle()
    join.sleep_until(join.now_ns + DEADLINE_NS)
    assert join.emitted == [0, 1]
    judgement = join.judge()
    assert judgement is not None
    # The second event never had the cheap answer, so the heavy model was asked about the first.
    assert judgement.missed.tolist() == [1, 1]
    assert judgement.answered.tolist() == [1, 0]


def test_nobody_is_asked_when_the_time_is_up() -> None:
    join = cascade()
    join.add_events([(0, True)])
    join.now_ns += DEADLINE_NS
    answer(join, CHEAP, UNCERTAIN, 0)
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[ANSWERED, NOT_ASKED]]
    assert join.escalations == 0


@pytest.mark.parametrize("score", [0.5, math.nan])
def test_an_answer_that_nobody_asked_for_counts(score: float) -> None:
    join = cascade()
    join.add_events([(0, True)])
    answer(join, HEAVY, score, 0)
    answer(join, CHEAP, UNCERTAIN, 0)
    settled = join.settle()
    assert settled is not None
    said = REFUSED if math.isnan(score) else ANSWERED
    assert settled.states.tolist() == [[ANSWERED, said]]
    assert join.escalations == 0, "all is known"


def test_a_repeated_answer_changes_nothing() -> None:
    join = cascade()
    join.add_events([(0, True)])
    answer(join, CHEAP, UNCERTAIN, 0)
    join.settle()
    answer(join, HEAVY, 0.5, 0)
    answer(join, HEAVY, 0.75, 0)
    settled = join.settle()
    assert settled is not None
    assert settled.scores[0, HEAVY, 0] == 0.5


def test_a_failed_heavy_model_is_asked_and_nobody_waits_for_it() -> None:
    join = cascade()
    join.set_expected([True, False])
    join.add_events([(0, True)])
    answer(join, CHEAP, UNCERTAIN, 0)
    settled = join.settle()
    assert settled is not None
    assert settled.states.tolist() == [[ANSWERED, WAITING]]
    assert join.escalations == 1
    answer(join, HEAVY, 0.5, 0)
    join.now_ns += DEADLINE_NS
    judgement = join.judge()
    assert judgement is not None
    assert judgement.answered.tolist() == [1, 1], "it shows that it is back"


def test_without_the_cheap_ones_the_heavy_model_is_asked_at_once() -> None:
    join = cascade()
    join.add_events([(0, True)])
    join.set_expected([False, True])
    assert join.settle() is None
    assert join.escalations == 1


def test_backlog_waits_for_the_heavy_model_from_the_question_on() -> None:
    join = cascade()
    join.add_events([(0, True), (1, True)], backlog_below=2)
    for _ in range(5):  # the cheap model moves slowly, longer than anybody may stand still
        join.sleep_until(join.now_ns + STALL_NS - 1)
        join.reference.progress_ns[CHEAP] = join.join._progress_ns[CHEAP] = join.now_ns
    answer(join, CHEAP, UNCERTAIN, 0, 1)
    join.sleep_until(join.now_ns + STALL_NS - 1)
    assert join.emitted == []
    answer(join, HEAVY, 0.5, 0)
    join.sleep_until(join.now_ns + STALL_NS - 1)
    assert join.emitted == [0], "it moves, so that the second waits on"
    join.sleep_until(join.now_ns + LIMIT_NS)
    assert join.emitted == [0, 1]


def test_who_was_asked_may_be_said_from_outside() -> None:
    join = EscalatingJoin(cascade().join.config, np.array([True, True]))
    offsets: Ints = np.arange(3)
    join.add_events(offsets, np.array([True, True, False]), 0, 0)
    join.ask(np.array([1, 2]), 0)
    join.add_answers(CHEAP, Cells(offsets[:2], np.full(2, CERTAIN), 0), 0)
    settled = join.settle(DEADLINE_NS)
    assert settled is not None
    assert settled.states.tolist() == [
        [ANSWERED, NOT_ASKED], [ANSWERED, WAITING], [REFUSED, REFUSED]
    ]  # fmt: skip
    assert not len(join.take_escalated())


def test_a_rule_that_is_asked_late_is_objected_to() -> None:
    class Forgetful(EscalatingJoin):
        def _ask_rule(self, now_ns: int) -> None:
            pass

    class Waiting(EscalatingJoin):
        def _open(self, new: slice, scoreable: np.ndarray) -> None:
            super()._open(new, scoreable)
            self._rows.remaining[new] += scoreable

    for broken in (Forgetful, Waiting):
        with pytest.raises(AssertionError):
            find(schedules(cascade=True), lambda schedule, b=broken: not play(schedule, b))
