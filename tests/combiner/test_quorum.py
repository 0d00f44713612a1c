"""Who need not be waited for: shares of weight, and labels that nobody can change any more."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.catalogue import catalogue
from combiner.quorum import MONOTONE, CertainLabel, ShareQuorum
from combiner.settled import ANSWERED, REFUSED, WAITING
from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.median import Median
from combiner.strategies.protocol import Ingredients, Strategy
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import Artefact, Calibration, Stacking, StackingFit
from tests.combiner.strategy_kit import manifest

STATES = {"A": ANSWERED, "R": REFUSED, ".": WAITING}
ALL = np.ones(3, dtype=np.bool_)


def states(*words: str) -> NDArray[np.uint8]:
    return np.array([[STATES[letter] for letter in word] for word in words], dtype=np.uint8)


# -- a share of the weight -------------------------------------------------------------------


def test_enough_weight_is_a_quorum() -> None:
    quorum = ShareQuorum(np.array([0.1, 0.2, 0.7]), 0.3, ALL, 1)
    cells = states("A..", ".A.", "AA.", "..A", "RR.", "AR.", "...")
    assert quorum.met(np.zeros((*cells.shape, 1)), cells).tolist() == [0, 0, 1, 1, 0, 0, 0]


def test_the_whole_share_is_everybody_whatever_the_rounding() -> None:
    weights = np.array([0.1, 0.2, 0.3])
    quorum = ShareQuorum(weights, 1.0, ALL, 1)
    assert quorum.met(np.zeros((2, 3, 1)), states("AAA", ".AA")).tolist() == [True, False]


def test_reserves_are_no_quorum() -> None:
    quorum = ShareQuorum(np.array([1.0, 1.0, 5.0]), 0.5, np.array([True, True, False]), 1)
    assert quorum.met(np.zeros((2, 3, 1)), states("..A", "A..")).tolist() == [False, True]


def test_fewer_than_the_minimum_of_members_are_no_quorum() -> None:
    quorum = ShareQuorum(np.array([8.0, 1.0, 1.0]), 0.5, ALL, 2)
    assert quorum.met(np.zeros((2, 3, 1)), states("A..", "A.A")).tolist() == [False, True]


def test_where_nobody_weighs_anything_heads_are_counted() -> None:
    quorum = ShareQuorum(np.zeros(3), 0.6, ALL, 1)
    assert quorum.met(np.zeros((2, 3, 1)), states("A..", "A.A")).tolist() == [False, True]


# -- a label that is certain -----------------------------------------------------------------


def certain(strategy: Strategy, minimum_members: int = 1) -> CertainLabel:
    return CertainLabel(strategy, Calibrator([], {}), ALL, 0.0, 1.0, minimum_members)


def test_two_of_three_votes_are_certain() -> None:
    scores = np.array([[0.9, 0.8, 0], [0.9, 0.1, 0], [0.1, 0.2, 0]])
    cells = states("AA.", "AA.", "AA.")
    assert certain(MajorityVote(np.ones(3))).met(scores[:, :, None], cells).tolist() == [
        True,
        False,
        True,
    ]


def test_a_mean_is_certain_when_the_rest_cannot_move_it_over_the_threshold() -> None:
    scores = np.array([[0.8, 0.8, 0], [0.74, 0.74, 0], [0.2, 0.2, 0], [0.26, 0.26, 0]])
    cells = states("AA.", "AA.", "AA.", "AA.")
    found = certain(WeightedMean(np.ones(3))).met(scores[:, :, None], cells)
    assert found.tolist() == [True, False, True, False]


def test_a_refusal_changes_nothing_any_more() -> None:
    scores = np.array([[0.9, np.nan, np.nan]])
    quorum = certain(WeightedMean(np.ones(3)))
    assert quorum.met(scores[:, :, None], states("A..")).tolist() == [False]
    assert quorum.met(scores[:, :, None], states("AR.")).tolist() == [False]
    assert quorum.met(scores[:, :, None], states("ARR")).tolist() == [True]


def test_a_tie_that_rounding_could_break_is_not_certain() -> None:
    scores = np.array([[0.5, 0.5, 0.0]])
    assert certain(Median()).met(scores[:, :, None], states("AAR")).tolist() == [False]


def test_an_uncertain_minimum_of_members_is_waited_for() -> None:
    scores = np.array([[1.0, 0.0, 0.0]])
    heavy = WeightedMean(np.array([8.0, 1.0, 1.0]))
    assert certain(heavy).met(scores[:, :, None], states("A..")).tolist() == [True]
    assert certain(heavy, minimum_members=2).met(scores[:, :, None], states("A..")).tolist() == [
        False
    ]


def test_a_strategy_of_which_it_cannot_be_told_is_refused() -> None:
    class Strange(Median):
        name = "strange"

    with pytest.raises(AssertionError, match="strange"):
        certain(Strange())


values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0.0, 1.0))
CURVE = Calibration(scores=[0.0, 0.3, 1.0], probabilities=[0.1, 0.6, 0.9])


ENTRY = manifest("binary").models[0]


@st.composite
def strategies(draw: st.DrawFn, members: int) -> Strategy:
    drawn = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=members, max_size=members)
    weights = np.array(draw(drawn))
    threshold = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    kind = catalogue()[draw(st.sampled_from(sorted(MONOTONE)))]
    models = [f"m{place}" for place in range(members)]
    learned = dict(zip(models, weights.tolist(), strict=True))
    known = msgspec.structs.replace(
        manifest("binary"),
        models=tuple(msgspec.structs.replace(ENTRY, name=n, artefact=file(n)) for n in models),
        stacking=Stacking((), {"": StackingFit(0.0, ())}, (), ()),
        quantiles={},
        blending=learned,
        quality=learned,
    )
    nobody = np.zeros(members, dtype=np.bool_)
    return kind.made_of(Ingredients(models, nobody, weights, threshold, 0.2, known))


def file(name: str) -> Artefact:
    return Artefact(f"{name}.txt", "0" * 64)


@settings(derandomize=True, max_examples=600, deadline=None)
@given(st.integers(1, 5), st.data())
def test_a_certain_label_is_the_label_of_whatever_follows(
    members: int, data: st.DataObject
) -> None:
    """Each missing member may answer anything, refuse, or stay silent."""
    strategy = data.draw(strategies(members))
    calibrator = Calibrator(["a"], {"a": CURVE} if data.draw(st.booleans()) else {})
    everybody = np.ones(members, dtype=np.bool_)
    quorum = CertainLabel(strategy, calibrator, everybody, 0.0, 1.0, 1)
    cells = np.array(
        [data.draw(st.lists(st.sampled_from([WAITING, ANSWERED, REFUSED]), min_size=members,
                            max_size=members))], dtype=np.uint8,
    )  # fmt: skip
    scores = np.array([data.draw(st.lists(values, min_size=members, max_size=members))])
    if not quorum.met(scores[:, :, None], cells)[0]:
        return
    label = label_of(strategy, calibrator, scores, cells == ANSWERED)
    futures = st.lists(st.tuples(st.booleans(), values), min_size=members, max_size=members)
    for future in data.draw(st.lists(futures, min_size=1, max_size=4)):
        answers = np.array([[answers for answers, _ in future]])
        later = np.array([[score for _, score in future]])
        present = (cells == ANSWERED) | ((cells == WAITING) & answers)
        final = np.where(cells == ANSWERED, scores, later)
        assert label_of(strategy, calibrator, final, present) == label


def label_of(
    strategy: Strategy,
    calibrator: Calibrator,
    scores: NDArray[np.float64],
    present: NDArray[np.bool_],
) -> bool:
    known = calibrator.apply(np.where(present, scores, np.nan)[:, :, None])
    return bool(strategy.combine(known, present)[0, 0] >= strategy.threshold)
