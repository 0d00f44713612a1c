"""From the models' raw answers to probabilities that mean what they say.

Each member is calibrated by itself, before anything is combined, so that the means, medians and
votes of any subset of members are made of calibrated numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from registry.manifest import Calibration

Floats = NDArray[np.float64]


class Calibrator:
    """Maps float64[N, M, K] of raw answers to probabilities, model by model.

    A model without a calibration keeps its own answers; only binary ones (K = 1) have any.
    """

    def __init__(self, models: Sequence[str], calibrations: Mapping[str, Calibration]) -> None:
        self._knots = [
            (column, np.array(found.scores), np.array(found.probabilities))
            for column, model in enumerate(models)
            if (found := calibrations.get(model)) is not None
        ]

    def apply(self, scores: Floats) -> Floats:
        """A calibrated copy; NaN stays NaN."""
        calibrated = scores.copy()
        for column, knots, probabilities in self._knots:
            calibrated[:, column, 0] = np.interp(scores[:, column, 0], knots, probabilities)
        return calibrated
