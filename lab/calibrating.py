"""Fits of the calibrators, by scikit-learn: what is fitted here is what it would fit itself."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from combiner.calibrators.protocol import evidence
from registry.certainty import CalibrationFit, Curve, IsotonicFit, PlattFit, TemperatureFit

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

CalibrationMethod = Literal["isotonic", "platt", "temperature"]


def fit_calibrator(method: CalibrationMethod, scores: Floats, labels: Labels) -> CalibrationFit:
    """A calibration of float64[N, K] scores to int64[N] labels (binary: 0 and 1; else classes)."""
    return _FITS[method](scores, labels)


def _isotonic(scores: Floats, labels: Labels) -> IsotonicFit:
    """Probabilities stay inside (0, 1), by the weight of one row among the N.

    No finite sample can show that something is certain.
    """
    from sklearn.isotonic import IsotonicRegression

    curves = []
    for column, positive in _one_against_rest(scores, labels):
        fitted = IsotonicRegression(out_of_bounds="clip").fit(column, positive)
        knots, probabilities = fitted.X_thresholds_, fitted.y_thresholds_
        curves.append(Curve(tuple(knots.tolist()), tuple(probabilities.tolist())))
    return IsotonicFit(tuple(curves), 1.0 / (len(scores) + 2))


def _platt(scores: Floats, labels: Labels) -> PlattFit:
    found = [
        _sigmoid(column, positive)
        for column, positive in _one_against_rest(evidence(scores), labels)
    ]
    return PlattFit(tuple(slope for slope, _ in found), tuple(start for _, start in found))


def _temperature(scores: Floats, labels: Labels) -> TemperatureFit:
    x = evidence(scores)
    # scikit-learn makes (-x, x) of a decision x, whose difference is twice the log-odds.
    fitted = _calibrated("temperature", x[:, 0] / 2.0 if x.shape[1] == 1 else x, labels)
    return TemperatureFit(float(fitted.beta_))


def _sigmoid(column: Floats, positive: Labels) -> tuple[float, float]:
    fitted = _calibrated("sigmoid", column, positive)
    return float(fitted.a_), float(fitted.b_)


def _calibrated(method: str, decisions: Floats, labels: Labels) -> Any:
    """What `CalibratedClassifierCV` fits to given decisions."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    from lab.passing import Passing

    classes = np.arange(2 if decisions.ndim == 1 else decisions.shape[1])
    whole = CalibratedClassifierCV(FrozenEstimator(Passing(classes)), method=method)
    whole.fit(decisions.reshape(len(decisions), -1), labels)
    return whole.calibrated_classifiers_[0].calibrators[0]


def _one_against_rest(scores: Floats, labels: Labels) -> list[tuple[Floats, Labels]]:
    if scores.shape[1] == 1:
        return [(scores[:, 0], labels)]
    return [(scores[:, k], (labels == k).astype(np.int64)) for k in range(scores.shape[1])]


_FITS: dict[CalibrationMethod, Callable[[Floats, Labels], CalibrationFit]] = {
    "isotonic": _isotonic,
    "platt": _platt,
    "temperature": _temperature,
}
