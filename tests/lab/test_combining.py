"""What the ensemble learns about its members."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mean_squared_error

from combiner.calibration import Calibrator
from combiner.strategies.arithmetic import logit
from combiner.strategies.stacking import Stacked
from combiner.strategies.stacking_with_features import meta_inputs
from lab.combining import (
    STACKING_C,
    fit_blending,
    fit_calibration,
    fit_stacking,
    masks,
    meta_inputs_of,
    qualities,
    quantiles,
)
from streams.features import Feature, FeatureSchema

RANDOM = np.random.default_rng(0)
TRUTH = (RANDOM.random(3000) < 0.3).astype(np.int64)


def made_up_scores(members: int) -> np.ndarray:
    noise = RANDOM.normal(size=(len(TRUTH), members)) + RANDOM.normal(size=(len(TRUTH), 1))
    return 1 / (1 + np.exp(-(2 * TRUTH[:, None] - 1.5 + noise)))


def test_each_subset_is_fitted_as_scikit_learn_fits_it() -> None:
    scores = made_up_scores(3)
    scores[:3] = [[0.0, 1.0, 0.5]] * 3
    stacking = fit_stacking(["a", "b", "c"], scores[:, :, None], TRUTH)
    assert sorted(stacking.fits) == ["001", "010", "011", "100", "101", "110", "111"]
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))
    for mask in stacking.fits:
        [fit] = stacking.fits_of(mask)
        present = [digit == "1" for digit in mask]
        model = LogisticRegression(C=STACKING_C, tol=1e-10, max_iter=10_000)
        model.fit(logits[:, present], TRUTH)
        np.testing.assert_allclose(fit.intercept, model.intercept_[0], atol=1e-4)
        np.testing.assert_allclose(fit.weights, model.coef_[0], atol=1e-4)
    np.testing.assert_allclose(stacking.means, logits.mean(axis=0))
    np.testing.assert_allclose(stacking.covariance, np.cov(logits.T))


def test_the_live_strategy_computes_what_was_fitted() -> None:
    scores = made_up_scores(3)
    stacking = fit_stacking(["a", "b", "c"], scores[:, :, None], TRUTH)
    model = LogisticRegression(C=STACKING_C, solver="newton-cholesky", tol=1e-8)
    model.fit(logit(scores[:, [0, 2]]), TRUTH)
    present = np.tile([True, False, True], (len(scores), 1))
    np.testing.assert_allclose(
        Stacked(stacking, [0, 1, 2]).combine(scores[:, :, None], present)[:, 0],
        model.predict_proba(logit(scores[:, [0, 2]]))[:, 1],
        rtol=1e-9,
    )


def test_one_member_is_an_ensemble_too() -> None:
    stacking = fit_stacking(["a"], made_up_scores(1)[:, :, None], TRUTH)
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


def test_a_calibration_is_scikit_learn_s_isotonic_regression() -> None:
    scores = made_up_scores(1)[:, 0]
    calibration = fit_calibration(scores, TRUTH)
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(scores, TRUTH)
    asked = np.concatenate([scores, np.linspace(-0.1, 1.1, 1001)])
    margin = 1.0 / (len(scores) + 2)
    mapped = Calibrator(["m"], {"m": calibration}).apply(asked[:, None, None])[:, 0, 0]
    expected = np.clip(isotonic.predict(asked), margin, 1 - margin)
    np.testing.assert_allclose(mapped, expected, rtol=0, atol=1e-9)


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
    found = quantiles(np.linspace(0.2, 0.6, 1001)[:, None])
    np.testing.assert_allclose(found, np.linspace(0.2, 0.6, 101))


def test_quantiles_of_several_classes_are_rows() -> None:
    answers = np.random.default_rng(1).dirichlet(np.ones(3), 500)
    found = np.array(quantiles(answers))
    assert found.shape == (3, 101)
    np.testing.assert_allclose(found[1], np.quantile(answers[:, 1], np.linspace(0, 1, 101)))


def test_blending_weights_are_the_best_of_all_mixtures() -> None:
    """Two members, so every mixture can be looked at."""
    scores = made_up_scores(2)
    scores[:, 1] = 0.6 * scores[:, 1] + 0.2
    weights = fit_blending(scores[:, :, None], TRUTH)
    assert weights.sum() == pytest.approx(1.0)
    shares = np.linspace(0, 1, 2001)
    mixed = scores[:, :1] * shares + scores[:, 1:] * (1 - shares)
    losses = -np.where(TRUTH[:, None] == 1, np.log(mixed), np.log(1 - mixed)).mean(axis=0)
    assert weights[0] == pytest.approx(shares[losses.argmin()], abs=1e-3)


def test_blending_weights_of_amounts_are_the_constrained_least_squares() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(1e6, 3e5, 500)
    answers = truth[:, None] + rng.normal(0, [1e5, 2e5, 8e5], (500, 3)) + [0, 0, 5e5]
    weights = fit_blending(answers[:, :, None], truth, "regression")
    # The last weight is one minus the others, and least squares does the rest.
    design, goal = answers[:, :2] - answers[:, 2:], truth - answers[:, 2]
    free, _ = nnls(design, goal)
    assert free.sum() <= 1  # so the constraint that was left out holds
    np.testing.assert_allclose(weights[:2], free, rtol=0, atol=1e-4)


def test_a_member_that_is_right_gets_all_the_weight() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 300)
    right = np.eye(3)[truth] * 0.9 + 0.1 / 3
    answers = np.stack([right, rng.dirichlet(np.ones(3), 300)], axis=1)
    assert fit_blending(answers, truth, "multiclass").tolist() == [1.0, 0.0]


def test_quality_is_minus_scikit_learns_loss() -> None:
    rng = np.random.default_rng(4)
    classes, shares = rng.integers(0, 3, 300), rng.dirichlet(np.ones(3), (300, 2))
    found = qualities(shares, classes, "multiclass")
    assert found == pytest.approx([-log_loss(classes, shares[:, m]) for m in range(2)])
    scores = made_up_scores(2)
    found = qualities(scores[:, :, None], TRUTH)
    assert found == pytest.approx([-log_loss(TRUTH, scores[:, m]) for m in range(2)])
    amounts = rng.normal(size=(300, 2))
    found = qualities(amounts[:, :, None], amounts.mean(axis=1), "regression")
    assert found == pytest.approx(
        [-mean_squared_error(amounts.mean(axis=1), amounts[:, m]) for m in range(2)]
    )


def test_a_meta_model_takes_numbers_and_few_categories() -> None:
    schema = FeatureSchema(
        (
            Feature("amount"),
            Feature("empty", required=False),
            Feature("always"),
            Feature("kind", "category", ("a", "b"), required=False),
            Feature("town", "category", tuple(f"t{i:02}" for i in range(21))),
        )
    )
    matrix = np.array([[1.0, 3.0, 5.0], [np.nan] * 3, [7.0] * 3, [0, 1, np.nan], [4, 9, 20]]).T
    inputs = meta_inputs_of(schema, matrix)
    assert [(each.feature, each.code) for each in inputs] == [(0, None), (3, 0), (3, 1)]
    found = meta_inputs(inputs, matrix)
    spread = np.sqrt(8 / 3)
    np.testing.assert_allclose(found[:, 0], [-2 / spread, 0, 2 / spread])
    np.testing.assert_allclose(found[:, 1], [1, -1, 0])
    np.testing.assert_allclose(found[:, 2], [-1, 1, 0])
