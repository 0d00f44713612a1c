"""Calibration against numpy.interp and against the isotonic regression it was made from."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from combiner.calibration import Calibrator
from registry.manifest import Calibration

STEEP = Calibration((0.1, 0.4, 0.9), (0.0, 0.7, 1.0))
FLAT = Calibration((0.5,), (0.3,))
SCORES = np.random.default_rng(5).random((300, 3, 1)) * 1.4 - 0.2


def test_each_model_has_its_own_map() -> None:
    calibrated = Calibrator(["a", "b", "c"], {"c": STEEP, "a": FLAT}).apply(SCORES)
    assert (calibrated[:, 0] == 0.3).all()
    assert np.array_equal(calibrated[:, 1], SCORES[:, 1])
    expected = np.interp(SCORES[:, 2, 0], STEEP.scores, STEEP.probabilities)
    assert np.array_equal(calibrated[:, 2, 0], expected)


def test_it_says_what_the_isotonic_regression_says() -> None:
    rng = np.random.default_rng(8)
    scores = rng.random(500)
    truth = rng.random(500) < scores**2
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(scores, truth)
    knots = Calibration(
        tuple(isotonic.X_thresholds_.tolist()), tuple(isotonic.y_thresholds_.tolist())
    )
    asked = np.linspace(-0.5, 1.5, 2001)
    calibrated = Calibrator(["a"], {"a": knots}).apply(asked[:, None, None])[:, 0, 0]
    np.testing.assert_allclose(calibrated, isotonic.predict(asked), rtol=0, atol=1e-12)
    assert (np.diff(calibrated) >= 0).all()


@pytest.mark.parametrize(
    ("score", "probability"),
    [(-5.0, 0.0), (0.1, 0.0), (0.25, 0.35), (0.4, 0.7), (0.9, 1.0), (99.0, 1.0)],
)
def test_between_knots_it_is_straight_and_outside_it_is_flat(
    score: float, probability: float
) -> None:
    calibrated = Calibrator(["a"], {"a": STEEP}).apply(np.array([[[score]]]))
    assert calibrated[0, 0, 0] == pytest.approx(probability, abs=1e-12)


def test_what_is_missing_stays_missing() -> None:
    calibrated = Calibrator(["a", "b"], {"a": STEEP}).apply(np.full((1, 2, 1), np.nan))
    assert np.isnan(calibrated).all()


def test_the_scores_given_are_not_changed() -> None:
    given = SCORES.copy()
    Calibrator(["a", "b", "c"], {"a": STEEP, "b": STEEP, "c": FLAT}).apply(given)
    assert np.array_equal(given, SCORES)


def test_a_calibration_of_a_model_that_does_not_run_is_not_needed() -> None:
    calibrated = Calibrator(["a"], {"other": FLAT}).apply(np.array([[[0.9]]]))
    assert calibrated[0, 0, 0] == 0.9


def test_no_events_give_none() -> None:
    assert Calibrator(["a"], {"a": STEEP}).apply(np.empty((0, 1, 1))).shape == (0, 1, 1)


def test_several_classes_keep_their_probabilities() -> None:
    answers = np.random.default_rng(5).dirichlet(np.ones(3), (20, 2))
    assert np.array_equal(Calibrator(["a", "b"], {}).apply(answers), answers)
