"""Selection before the strategy, calibration and promises after it, each by itself optional."""

import numpy as np

from combiner.conformal import PredictionIntervals, PredictionSets
from combiner.facts import Facts
from combiner.recalibration import Recalibrator
from combiner.refinement import NO_REFINEMENT, Promises, Refinement
from combiner.selection.constrained_subset import ConstrainedSubset, Constraints
from combiner.selection.protocol import Context
from combiner.selection.segment_weights import HeaderValues, SegmentWeights
from registry.certainty import Conformal, Quantile, TemperatureFit
from tests.combiner.selection_kit import members

PRESENT = np.array([[True, True], [True, False], [False, True]])
SCORES = np.array([[0.2], [0.5], [0.9]])
ANSWERS = np.array([[0.1, 0.3], [0.5, np.nan], [np.nan, 0.9]])[:, :, None]
CHANCE = np.array([0.1, 0.5, 0.9])
FACTS = Facts(np.empty((3, 0)), Context(np.arange(3), {"tier": np.array(["a", "b", ""])}), CHANCE)


def test_without_anything_nothing_changes() -> None:
    used, weights = NO_REFINEMENT.chosen(FACTS, PRESENT)
    assert used is PRESENT
    assert weights is None
    scores, promises = NO_REFINEMENT.finished(SCORES, ANSWERS, PRESENT, FACTS)
    assert scores is SCORES
    assert promises is None


def test_who_has_no_weight_does_not_count() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    refinement = Refinement(SegmentWeights(HeaderValues("tier", ["a", "b"]), weights))
    assert refinement.headers == ("tier",)
    used, shares = refinement.chosen(FACTS, PRESENT)
    # The second event's only member weighs nothing there, and counts all the same.
    assert used.tolist() == [[True, False], [True, False], [False, True]]
    assert shares is not None
    np.testing.assert_array_equal(shares, used.astype(float))


def test_the_subset_is_one_for_all_events() -> None:
    subset = ConstrainedSubset(members(2), Constraints(1))
    used, _ = Refinement(subset).chosen(FACTS, np.ones((3, 2), dtype=np.bool_))
    assert (used == subset.chosen).all()


def test_sets_are_of_the_scores_before_their_calibration() -> None:
    table = {"11": Quantile(0.3), "10": Quantile(0.6), "01": Quantile(0.05)}
    refinement = Refinement(
        recalibrator=Recalibrator([0, 1], dict.fromkeys(table, TemperatureFit(2.0))),
        sets=PredictionSets(Conformal("lac", 0.9, table), [0, 1]),
    )
    scores, promises = refinement.finished(SCORES, ANSWERS, PRESENT, FACTS)
    odds = np.square(SCORES / (1 - SCORES))
    np.testing.assert_allclose(scores, odds / (1 + odds))
    assert promises is not None
    assert promises.coverage == 0.9
    assert promises.inside.tolist() == [[True, False], [True, True], [False, False]]


def test_intervals_are_those_of_the_subset() -> None:
    table = {"11": Quantile(1.0), "10": Quantile(2.0), "01": Quantile(3.0)}
    refinement = Refinement(
        intervals=PredictionIntervals(Conformal("absolute", 0.8, table), [0, 1])
    )
    _, promises = refinement.finished(SCORES, ANSWERS, PRESENT, FACTS)
    np.testing.assert_allclose(promises.ranges, [[-0.8, 1.2], [-1.5, 2.5], [-2.1, 3.9]])


def test_promises_of_some_rows_are_spread_over_all() -> None:
    some = Promises(0.9, np.array([True]), inside=np.array([[True, False]]))
    whole = some.spread(3, np.array([1]))
    assert whole.known.tolist() == [False, True, False]
    assert whole.inside.tolist() == [[False, False], [True, False], [False, False]]
    ranges = Promises(0.9, np.array([True]), ranges=np.array([[1.0, 2.0]]))
    assert np.isnan(ranges.spread(2, np.array([0])).ranges).tolist() == [[False] * 2, [True] * 2]


def test_facts_of_some_rows() -> None:
    taken = FACTS.take(np.array([2, 0]))
    assert taken.chance.tolist() == [0.9, 0.1]
    assert taken.context.headers["tier"].tolist() == ["", "a"]
