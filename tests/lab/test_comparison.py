"""The corrected interval against scipy, and against what it is made for."""

import numpy as np
import pytest
from scipy import stats

from lab.comparison import corrected_interval

RANDOM = np.random.default_rng(3)


def test_without_overlap_it_is_the_t_interval() -> None:
    results = RANDOM.normal(0.3, 1.0, 12)
    found = corrected_interval(results, 0.0)
    plain = stats.ttest_1samp(results, 0.0)
    low, high = plain.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, plain.pvalue))


def test_overlap_widens_it_by_the_root_of_the_correction() -> None:
    results = RANDOM.normal(0.3, 1.0, 10)
    plain, corrected = corrected_interval(results, 0.0), corrected_interval(results, 0.25)
    assert (corrected.high - corrected.mean) / (plain.high - plain.mean) == pytest.approx(
        np.sqrt((0.1 + 0.25) / 0.1)
    )


def test_results_that_are_all_alike_leave_no_doubt() -> None:
    assert corrected_interval(np.zeros(5), 0.25).p == 1.0
    assert corrected_interval(np.ones(5), 0.25).p == 0.0
