"""Temperature scaling: all log-odds are stretched or shrunk by one number.

Guo et al., "On calibration of modern neural networks" (ICML 2017). It never changes which class
is the likeliest.
"""

from typing import ClassVar

import numpy as np

from combiner.calibrators.protocol import Floats, evidence
from registry.certainty import TemperatureFit


class Temperature:
    """The softmax of beta times the evidence; for one column the logistic function of it."""

    name: ClassVar[str] = "temperature"

    def __init__(self, fit: TemperatureFit) -> None:
        self._beta = fit.beta

    def apply(self, scores: Floats) -> Floats:
        """float64[N, K]."""
        x = self._beta * evidence(scores)
        if scores.shape[1] == 1:
            small = np.exp(-np.abs(x))
            return np.where(x >= 0, 1.0, small) / (1.0 + small)
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        softmax: Floats = powers / powers.sum(axis=1, keepdims=True)
        return softmax
