"""From answers to scores, rung by rung, and what each number of a decision means."""

import itertools

import numpy as np
import pytest

from combiner.decision import Absences
from combiner.fallback import RUNGS
from combiner.settled import ANSWERED, REFUSED, WAITING
from combiner.strategies.arithmetic import logit
from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.stacking import Stacked
from registry.manifest import Calibration, Stacking, StackingFit
from tests.combiner.decision_kit import NOW_MS, Memory, decider, latest, settled

ENTITIES = ["x", "y", "z", "w"]


def test_a_full_row_is_the_strategy_over_all_members() -> None:
    decisions = decider([1, 3]).decide(settled(("AA", (0.25, 0.75))), ["x"], NOW_MS)
    assert decisions.scores[:, 0].tolist() == [0.625]
    assert decisions.labels.tolist() == [1]
    assert decisions.rungs.tolist() == [RUNGS.index("none")]
    assert decisions.used.tolist() == [[True, True]]
    assert decisions.contributions is None
    assert decisions.cached_at_ms == {}


def test_the_threshold_itself_is_a_yes() -> None:
    decisions = decider([1, 1]).decide(settled(("AA", (0.25, 0.75))), ["x"], NOW_MS)
    assert (decisions.scores[0, 0], decisions.labels[0]) == (0.5, 1)


def test_a_partial_row_is_the_strategy_over_who_is_there() -> None:
    decisions = decider([1, 3]).decide(
        settled((".A", (0, 0.6)), ("AR", (0.2, 0))), ENTITIES[:2], NOW_MS
    )
    assert decisions.scores[:, 0].tolist() == pytest.approx([0.6, 0.2])
    assert decisions.labels.tolist() == [1, 0]
    assert decisions.rungs.tolist() == [RUNGS.index("partial")] * 2


def test_members_are_calibrated_before_they_are_combined() -> None:
    upside = Calibration((0.0, 1.0), (0.4, 0.8))
    decisions = decider([1, 1], calibrations={"b": upside}).decide(
        settled(("AA", (0.2, 0.5))), ["x"], NOW_MS
    )
    assert decisions.calibrated[:, :, 0].tolist() == [pytest.approx([0.2, 0.6])]
    assert decisions.scores[:, 0].tolist() == pytest.approx([0.4])


def test_stacking_gets_the_raw_answers_and_shows_the_calibrated_ones() -> None:
    fit = Stacking(("a",), {"1": StackingFit(0.25, (1.5,))}, (0.0,), ((1.0,),))
    low = Calibration((0.0, 1.0), (0.0, 0.1))
    decisions = decider(
        [1], strategy=Stacked(fit, [0]), calibrations={"a": low}, explain=True
    ).decide(settled(("A", (0.9,))), ["x"], NOW_MS)
    log_odds = 0.25 + 1.5 * float(logit(np.array(0.9)))
    assert decisions.scores[0, 0] == pytest.approx(1 / (1 + np.exp(-log_odds)))
    assert decisions.calibrated[0, 0, 0] == pytest.approx(0.09)
    assert decisions.contributions is not None
    assert decisions.contributions[0, 0, 0] == pytest.approx(log_odds - 0.25)


def test_the_label_follows_the_strategys_own_threshold() -> None:
    vote = MajorityVote(np.ones(3), vote_threshold=0.9)
    decisions = decider([1, 1, 1], strategy=vote, threshold=0.9).decide(
        settled(("AAA", (0.95, 0.99, 0.1)), ("AAA", (0.8, 0.8, 0.8))), ENTITIES[:2], NOW_MS
    )
    assert decisions.scores[:, 0].tolist() == pytest.approx([2 / 3, 0.0])
    assert decisions.labels.tolist() == [1, 0], "two of three say yes, though 2/3 < 0.9"


def test_the_reserve_answers_where_too_few_members_do() -> None:
    decisions = decider([1, 1, 1], reserves=[False, False, True], minimum_members=2).decide(
        settled(("A.A", (0.9, 0, 0.3)), ("AAA", (0.9, 0.7, 0.3)), ("AA.", (0.1, 0.3, 0))),
        ENTITIES[:3],
        NOW_MS,
    )
    assert [RUNGS[rung] for rung in decisions.rungs] == ["reserve", "none", "none"]
    assert decisions.scores[:, 0].tolist() == pytest.approx([0.3, 0.8, 0.2])
    assert decisions.used.tolist() == [
        [False, False, True], [True, True, False], [True, True, False],
    ]  # fmt: skip


# -- cached and prior ------------------------------------------------------------------------


def test_a_row_without_answers_gets_the_last_score_of_its_entity() -> None:
    memory = Memory({"y": latest(0.8, 1, age_ms=1500)})
    decisions = decider([1, 1], memory=memory).decide(
        settled(("A.", (0.2, 0)), ("..", (0, 0)), ("RR", (0, 0))), ENTITIES[:3], NOW_MS
    )
    assert memory.asked == [["y", "z"]], "only those are asked for that need it, in one batch"
    assert [RUNGS[rung] for rung in decisions.rungs] == ["partial", "cached", "prior"]
    assert decisions.scores[:, 0].tolist() == pytest.approx([0.2, 0.8, 0.1])
    assert decisions.labels.tolist() == [0, 1, 0]
    assert decisions.cached_at_ms == {1: NOW_MS - 1500}
    assert not decisions.used[1:].any()
    assert decisions.confidence[1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("age_ms", "rung"), [(60_000, "cached"), (60_001, "prior")])
def test_a_cached_score_is_used_up_to_its_age(age_ms: int, rung: str) -> None:
    memory = Memory({"x": latest(0.8, 1, age_ms)})
    decisions = decider([1], memory=memory).decide(settled((".", (0,))), ["x"], NOW_MS)
    assert RUNGS[decisions.rungs[0]] == rung


def test_a_cached_score_from_the_future_is_fresh() -> None:
    """The wall clock may go back; a score is not older than nothing for it."""
    memory = Memory({"x": latest(0.8, 1, age_ms=-5000)})
    decisions = decider([1], memory=memory).decide(settled((".", (0,))), ["x"], NOW_MS)
    assert RUNGS[decisions.rungs[0]] == "cached"


def test_the_cached_label_is_the_one_it_was_given_then() -> None:
    memory = Memory({"x": latest(0.55, 0, age_ms=0)})
    decisions = decider([1], memory=memory).decide(settled((".", (0,))), ["x"], NOW_MS)
    assert (decisions.scores[0, 0], decisions.labels[0]) == (0.55, 0)


def test_nobody_is_asked_when_the_cache_is_no_rung() -> None:
    memory = Memory({"x": latest(0.8, 1, age_ms=0)})
    decisions = decider([1], memory=memory, rungs=("partial",)).decide(
        settled((".", (0,))), ["x"], NOW_MS
    )
    assert memory.asked == []
    assert RUNGS[decisions.rungs[0]] == "prior"


def test_nobody_is_asked_about_an_event_that_cannot_be_scored() -> None:
    memory = Memory()
    decider([1], memory=memory).decide(
        settled(("R", (0,)), (".", (0,)), bad=[0]), ["", "y"], NOW_MS
    )
    assert memory.asked == [["y"]]


@pytest.mark.parametrize(("prior", "label"), [(0.49, 0), (0.5, 1)])
def test_the_prior_has_a_label_too(prior: float, label: int) -> None:
    decisions = decider([1], prior=prior).decide(settled((".", (0,))), ["x"], NOW_MS)
    assert (decisions.scores[0, 0], decisions.labels[0]) == (prior, label)


# -- confidence ------------------------------------------------------------------------------


def test_confidence_is_the_share_of_all_weight_that_answered_and_agrees() -> None:
    weights = [1.0, 2.0, 5.0]
    for present in itertools.product("A.R", repeat=3):
        for scores in itertools.product((0.1, 0.9), repeat=3):
            decisions = decider(weights).decide(settled(("".join(present), scores)), ["x"], NOW_MS)
            label = decisions.labels[0]
            agreeing = sum(
                weight
                for weight, state, score in zip(weights, present, scores, strict=True)
                if state == "A" and (score >= 0.5) == bool(label)
            )
            assert decisions.confidence[0] == pytest.approx(agreeing / sum(weights))


def test_without_weights_all_members_count_alike_in_confidence() -> None:
    decisions = decider([0, 0, 0, 0]).decide(settled(("AAA.", (0.9, 0.9, 0.3, 0))), ["x"], NOW_MS)
    assert decisions.confidence[0] == pytest.approx(0.5)


def test_a_reserve_is_measured_against_the_members_it_stands_in_for() -> None:
    for weight, confidence in ((1.0, 0.25), (9.0, 1.0)):
        decisions = decider([1, 3, weight], reserves=[False, False, True]).decide(
            settled(("..A", (0, 0, 0.9))), ["x"], NOW_MS
        )
        assert decisions.confidence[0] == pytest.approx(confidence)


# -- explanation -----------------------------------------------------------------------------


def test_contributions_add_up_and_are_nothing_on_the_low_rungs() -> None:
    memory = Memory({"y": latest(0.8, 1, age_ms=0)})
    decisions = decider([1, 3], explain=True, memory=memory).decide(
        settled(("AA", (0.2, 0.6)), ("..", (0, 0)), (".A", (0, 0.6))), ENTITIES[:3], NOW_MS
    )
    assert decisions.contributions is not None
    assert decisions.contributions[:, :, 0].tolist() == [
        pytest.approx([0.05, 0.45]), [0.0, 0.0], pytest.approx([0.0, 0.6]),
    ]  # fmt: skip


# -- who is missing --------------------------------------------------------------------------


def test_who_is_missing_and_why() -> None:
    absences = Absences(list("abcde"), np.array([False, False, False, False, True]))
    states = np.array([ANSWERED, REFUSED, WAITING, WAITING, WAITING], dtype=np.uint8)
    waited_for = np.array([True, True, True, False, False])
    expected = {"b": "refused", "c": "late", "d": "failed"}
    assert absences.missing(states, waited_for, hurried=False) == expected
    expected["c"] = "not awaited"
    assert absences.missing(states, waited_for, hurried=True) == expected


def test_a_failed_model_that_answered_is_not_missing_and_one_that_refused_refused() -> None:
    absences = Absences(list("ab"), np.zeros(2, dtype=np.bool_))
    nobody = np.zeros(2, dtype=np.bool_)
    states = np.array([ANSWERED, REFUSED], dtype=np.uint8)
    assert absences.missing(states, nobody, hurried=False) == {"b": "refused"}


def test_no_events_give_no_decisions() -> None:
    rows = settled(("A", (0.5,)))
    none = slice(0, 0)
    empty = type(rows)(
        rows.numbers[none], rows.offsets[none], rows.scores[none], rows.states[none],
        rows.seen_ns[none], rows.scoreable[none], {}, rows.hurried[none],
    )  # fmt: skip
    assert len(decider([1]).decide(empty, [], NOW_MS).scores) == 0
