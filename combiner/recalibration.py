"""The ensemble's scores as probabilities, with regard to who is missing."""

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from combiner.calibrators.isotonic import Isotonic
from combiner.calibrators.platt import Platt
from combiner.calibrators.protocol import ScoreCalibrator
from combiner.calibrators.temperature import Temperature
from combiner.subsets import BySubset
from registry.certainty import CalibrationFit, IsotonicFit, PlattFit, TemperatureFit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def calibrator_of(fit: CalibrationFit) -> ScoreCalibrator:
    """The calibrator that a fit describes."""
    match fit:
        case IsotonicFit():
            return Isotonic(fit)
        case PlattFit():
            return Platt(fit)
        case TemperatureFit():
            return Temperature(fit)
        case _:
            assert_never(fit)


class Recalibrator:
    """Maps each event's score by the calibration of those who made it.

    Args:
        columns: the column of each member, in the order of the masks.
        fits: by subset, see `registry.certainty`.
    """

    def __init__(self, columns: Sequence[int], fits: Mapping[str, CalibrationFit]) -> None:
        calibrators = {key: calibrator_of(fit) for key, fit in fits.items()}
        self._calibrators = BySubset(columns, calibrators)

    def apply(self, scores: Floats, present: Bools) -> Floats:
        """float64[N, K] for float64[N, K] scores and bool[N, M] of whose answers made them."""
        calibrated = np.empty_like(scores)
        for rows, calibrator in self._calibrators.groups(present):
            calibrated[rows] = calibrator.apply(scores[rows])
        return calibrated
