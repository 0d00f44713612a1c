"""Calibrators, fitted and applied, against scikit-learn's own."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from combiner.calibrators.protocol import CLIP
from combiner.recalibration import Recalibrator, calibrator_of
from lab.calibrating import fit_calibrator
from lab.passing import Passing

RANDOM = np.random.default_rng(4)
TRUTH = (RANDOM.random(2000) < 0.3).astype(np.int64)
BINARY = 1 / (1 + np.exp(-(3 * TRUTH - 2 + 2 * RANDOM.normal(size=2000))))[:, None]
CLASSES = RANDOM.integers(0, 3, 2000)
_raw = np.exp(2.5 * np.eye(3)[CLASSES] + 2 * RANDOM.normal(size=(2000, 3)))
SEVERAL = _raw / _raw.sum(axis=1, keepdims=True)
ASKED = RANDOM.random((3000, 1))
ASKED[:4, 0] = [0.0, 1.0, 1e-9, 1 - 1e-9]
_raw = RANDOM.random((3000, 3)) ** 3
ASKED_SEVERAL = _raw / _raw.sum(axis=1, keepdims=True)


def log_odds(scores: np.ndarray) -> np.ndarray:
    clipped = np.clip(scores, CLIP, 1 - CLIP)
    return np.log(clipped / (1 - clipped))


def logs(scores: np.ndarray) -> np.ndarray:
    return np.log(np.clip(scores, CLIP, 1 - CLIP))


def by_scikit_learn(method: str, known, labels, asked) -> np.ndarray:
    """Probabilities of every class as its `CalibratedClassifierCV` gives them for decisions."""
    classes = np.arange(max(known.shape[1], 2))
    whole = CalibratedClassifierCV(FrozenEstimator(Passing(classes)), method=method)
    return whole.fit(known, labels).predict_proba(asked)


def test_platt_is_scikit_learns_sigmoid() -> None:
    ours = calibrator_of(fit_calibrator("platt", BINARY, TRUTH)).apply(ASKED)
    theirs = by_scikit_learn("sigmoid", log_odds(BINARY), TRUTH, log_odds(ASKED))
    np.testing.assert_allclose(ours[:, 0], theirs[:, 1], rtol=0, atol=1e-9)


def test_platt_of_several_classes_is_scikit_learns() -> None:
    ours = calibrator_of(fit_calibrator("platt", SEVERAL, CLASSES)).apply(ASKED_SEVERAL)
    theirs = by_scikit_learn("sigmoid", logs(SEVERAL), CLASSES, logs(ASKED_SEVERAL))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_temperature_is_scikit_learns() -> None:
    ours = calibrator_of(fit_calibrator("temperature", BINARY, TRUTH)).apply(ASKED)
    theirs = by_scikit_learn("temperature", log_odds(BINARY) / 2, TRUTH, log_odds(ASKED) / 2)
    np.testing.assert_allclose(ours[:, 0], theirs[:, 1], rtol=0, atol=1e-9)
    ours = calibrator_of(fit_calibrator("temperature", SEVERAL, CLASSES)).apply(ASKED_SEVERAL)
    theirs = by_scikit_learn("temperature", logs(SEVERAL), CLASSES, logs(ASKED_SEVERAL))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_isotonic_is_scikit_learns_within_its_margin() -> None:
    fit = fit_calibrator("isotonic", BINARY, TRUTH)
    ours = calibrator_of(fit).apply(ASKED)[:, 0]
    theirs = IsotonicRegression(out_of_bounds="clip").fit(BINARY[:, 0], TRUTH).predict(ASKED[:, 0])
    margin = 1 / (len(TRUTH) + 2)
    np.testing.assert_allclose(ours, np.clip(theirs, margin, 1 - margin), rtol=0, atol=1e-9)


def test_isotonic_of_several_classes_is_scikit_learns_within_its_margin() -> None:
    ours = calibrator_of(fit_calibrator("isotonic", SEVERAL, CLASSES)).apply(ASKED_SEVERAL)
    theirs = by_scikit_learn("isotonic", SEVERAL, CLASSES, ASKED_SEVERAL)
    inside = (theirs > 1 / 2000).all(axis=1) & (theirs < 1 - 1 / 2000).all(axis=1)
    assert inside.sum() > 500
    np.testing.assert_allclose(ours[inside], theirs[inside], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.sum(axis=1), 1.0, rtol=1e-12)
    assert (ours > 0).all()


@pytest.mark.parametrize("method", ["isotonic", "platt", "temperature"])
def test_each_subset_has_its_own_calibration(method) -> None:
    shifted = 1 / (1 + np.exp(-(log_odds(BINARY) + 1.0)))
    fits = {
        "11": fit_calibrator(method, BINARY, TRUTH),
        "01": fit_calibrator(method, shifted, TRUTH),
        "10": fit_calibrator(method, 1 - BINARY, 1 - TRUTH),
    }
    present = RANDOM.random((len(ASKED), 2)) < 0.6
    present[~present.any(axis=1), 1] = True
    found = Recalibrator([0, 1], fits).apply(ASKED, present)
    for mask, fit in fits.items():
        rows = (present == [digit == "1" for digit in mask]).all(axis=1)
        assert rows.sum() > 300
        np.testing.assert_array_equal(found[rows], calibrator_of(fit).apply(ASKED[rows]))
