"""Who is escalated: the uncertain, the disputed, and those whom nobody cheap answered."""

import numpy as np

from combiner.calibration import Calibrator
from combiner.cascade import CascadeRule, UncertainScore
from combiner.fallback import Ladder
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, WAITING
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import Calibration
from streams.records import Fallback

SCORES = np.array([0.1, 0.3, 0.5, 0.7, np.nan])
ANSWERS = np.array([[0.1, 0.1], [0.3, 0.3], [0.5, 0.5], [0.4, 1.0], [np.nan, np.nan]])[:, :, None]
PRESENT = ~np.isnan(ANSWERS[:, :, 0])


def test_both_ends_of_the_band_are_in_it() -> None:
    found = CascadeRule(0.3, 0.5).escalates(SCORES, ANSWERS, PRESENT)
    assert found.tolist() == [False, True, True, False, True]


def test_members_that_differ_much_are_not_believed() -> None:
    found = CascadeRule(0.9, 1.0, max_dispersion=0.2).escalates(SCORES, ANSWERS, PRESENT)
    assert found.tolist() == [False, False, False, True, True]


def test_where_nobody_cheap_answered_somebody_else_must() -> None:
    rule = CascadeRule(0.0, 0.0, max_dispersion=5.0)
    nobody = np.zeros((2, 2), dtype=np.bool_)
    found = rule.escalates(np.full(2, np.nan), np.full((2, 2, 1), np.nan), nobody)
    assert found.all()


# -- of rows of the join -----------------------------------------------------------------------


def uncertain(*rungs: Fallback, minimum: int = 1, halving: bool = False) -> UncertainScore:
    """Of the models a, b, c and r, where c is heavy and r a reserve."""
    reserves = np.array([False, False, False, True])
    calibrations = {"a": Calibration((0.0, 1.0), (0.0, 0.5))} if halving else {}
    return UncertainScore(
        CascadeRule(0.4, 0.6),
        np.array([False, False, True, False]),
        Ladder(reserves, frozenset(rungs or ("partial",)), minimum),
        Calibrator(["a", "b", "c", "r"], calibrations),
        WeightedMean(np.array([1.0, 3.0, 1.0, 1.0])),
    )


def asks(cascade: UncertainScore, *rows: tuple[float | None, ...]) -> list[bool]:
    """Each row: what a and b said, None for a refusal; c and r say something uncertain."""
    states = np.full((len(rows), 4), ANSWERED, dtype=np.uint8)
    scores = np.full((len(rows), 4, 1), 0.5)
    for row, said in enumerate(rows):
        for member, score in enumerate(said):
            states[row, member] = REFUSED if score is None else ANSWERED
            scores[row, member] = np.nan if score is None else score
    return cascade.escalates(scores, states).tolist()


def test_it_asks_by_the_score_of_the_cheap_members_alone() -> None:
    # Weighed 1 to 3: 0.5, 0.65, 0.1.
    rows = ((0.2, 0.6), (0.8, 0.6), (0.1, 0.1))
    assert asks(uncertain(), *rows) == [True, False, False]


def test_it_asks_by_calibrated_answers() -> None:
    assert asks(uncertain(halving=True), (0.8, 0.6)) == [True]


def test_who_refused_leaves_the_score_to_the_others() -> None:
    assert asks(uncertain(), (None, 0.5), (None, 0.1), (0.1, None)) == [True, False, False]


def test_where_too_few_answered_for_a_score_somebody_else_must() -> None:
    assert asks(uncertain(minimum=2), (None, 0.1), (0.1, 0.1)) == [True, False]
    assert asks(uncertain("cached"), (None, 0.1), (0.1, 0.1)) == [True, False]
    assert asks(uncertain(), (None, None)) == [True]


def test_cells_that_are_not_answered_may_hold_anything() -> None:
    states = np.array([[ANSWERED, WAITING, NOT_ASKED, WAITING]], dtype=np.uint8)
    scores = np.array([[0.1, 0.5, np.inf, 0.5]])[:, :, None]
    assert uncertain().escalates(scores, states).tolist() == [False]


def test_of_several_classes_it_is_the_likeliest_that_counts() -> None:
    cascade = UncertainScore(
        CascadeRule(0.0, 0.6),
        np.array([False, True]),
        Ladder(np.zeros(2, np.bool_), frozenset(), 1),
        Calibrator(["a", "b"], {}),
        WeightedMean(np.ones(2)),
    )
    scores = np.array([[[0.2, 0.7, 0.1]] * 2, [[0.4, 0.35, 0.25]] * 2])
    states = np.array([[ANSWERED, NOT_ASKED]] * 2, dtype=np.uint8)
    assert cascade.escalates(scores, states).tolist() == [False, True]
