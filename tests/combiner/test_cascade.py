"""Who is escalated: the uncertain, the disputed, and those whom nobody cheap answered."""

import numpy as np

from combiner.cascade import CascadeRule

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
