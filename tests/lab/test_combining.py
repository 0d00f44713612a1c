"""What the ensemble learns about its members."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from combiner.strategies.arithmetic import logit
from combiner.strategies.stacking import Stacked
from lab.combining import (
    MAX_KNOTS,
    STACKING_C,
    fit_calibration,
    fit_stacking,
    masks,
    quantiles,
)

RANDOM = np.random.default_rng(0)
TRUTH = (RANDOM.random(3000) < 0.3).astype(np.int64)


def made_up_scores(members: int) -> np.ndarray:
    noise = RANDOM.normal(size=(len(TRUTH), members)) + RANDOM.normal(size=(len(TRUTH), 1))
    return 1 / (1 + np.exp(-(2 * TRUTH[:, None] - 1.5 + noise)))


def test_each_subset_is_fitted_as_scikit_learn_fits_it() -> None:
    scores = made_up_scores(3)
    scores[:3] = [[0.0, 1.0, 0.5]] * 3
    stacking = fit_stacking(["a", "b", "c"], scores, TRUTH)
    assert sorted(stacking.fits) == ["001", "010", "011", "100", "101", "110", "111"]
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))
    for mask, fit in stacking.fits.items():
        present = [digit == "1" for digit in mask]
        model = LogisticRegression(C=STACKING_C, tol=1e-10, max_iter=10_000)
        model.fit(logits[:, present], TRUTH)
        np.testing.assert_allclose(fit.intercept, model.intercept_[0], atol=1e-4)
        np.testing.assert_allclose(fit.weights, model.coef_[0], atol=1e-4)
    np.testing.assert_allclose(stacking.means, logits.mean(axis=0))
    np.testing.assert_allclose(stacking.covariance, np.cov(logits.T))


def test_the_live_strategy_computes_what_was_fitted() -> None:
    scores = made_up_scores(3)
    stacking = fit_stacking(["a", "b", "c"], scores, TRUTH)
    model = LogisticRegression(C=STACKING_C, solver="newton-cholesky", tol=1e-8)
    model.fit(logit(scores[:, [0, 2]]), TRUTH)
    present = np.tile([True, False, True], (len(scores), 1))
    np.testing.assert_allclose(
        Stacked(stacking, [0, 1, 2]).combine(scores[:, :, None], present)[:, 0],
        model.predict_proba(logit(scores[:, [0, 2]]))[:, 1],
        rtol=1e-9,
    )


def test_one_member_is_an_ensemble_too() -> None:
    stacking = fit_stacking(["a"], made_up_scores(1), TRUTH)
    assert list(stacking.fits) == ["1"]
    assert len(stacking.covariance) == 1


@pytest.mark.parametrize(("members", "count"), [(1, 1), (2, 3), (5, 31), (8, 255)])
def test_up_to_eight_members_every_subset_has_its_fit(members: int, count: int) -> None:
    found = list(masks(members))
    assert len(set(found)) == len(found) == count
    assert found[0] == "1" * members
    assert "0" * members not in found


def test_beyond_eight_members_the_likely_subsets_have_one() -> None:
    found = list(masks(9))
    assert len(set(found)) == len(found) == 1 + 9 + 36 + 9
    assert {mask.count("1") for mask in found} == {9, 8, 7, 1}


def test_a_calibration_follows_isotonic_regression() -> None:
    scores = made_up_scores(1)[:, 0]
    calibration = fit_calibration(scores, TRUTH)
    assert len(calibration.scores) == len(calibration.probabilities) <= MAX_KNOTS
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(scores, TRUTH)
    mapped = np.interp(scores, calibration.scores, calibration.probabilities)
    assert np.abs(mapped - isotonic.predict(scores)).mean() < 0.01


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=2, max_size=50))
def test_any_calibration_ascends_and_stays_inside(pairs) -> None:
    scores, truth = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    calibration = fit_calibration(scores, truth)  # its own checks refuse what does not ascend
    assert 0 < calibration.probabilities[0] <= calibration.probabilities[-1] < 1


def test_a_constant_score_is_calibrated_to_the_share_of_ones() -> None:
    calibration = fit_calibration(np.full(100, 0.7), np.arange(100) < 30)
    assert calibration.scores == (0.7,)
    assert calibration.probabilities == pytest.approx((0.3,))


def test_quantiles_are_those_of_the_scores() -> None:
    found = quantiles(np.linspace(0.2, 0.6, 1001))
    np.testing.assert_allclose(found, np.linspace(0.2, 0.6, 101))
