"""Platt's calibration: a logistic curve over the score's log-odds.

Platt, "Probabilistic outputs for support vector machines" (1999); several classes one against the
rest, and then made to add up to 1.
"""

from typing import ClassVar

import numpy as np

from combiner.calibrators.protocol import Floats, evidence, normalised
from registry.certainty import PlattFit


class Platt:
    """`1 / (1 + exp(slope x + intercept))` of each column's evidence x."""

    name: ClassVar[str] = "platt"

    def __init__(self, fit: PlattFit) -> None:
        self._slopes = np.array(fit.slopes)
        self._intercepts = np.array(fit.intercepts)

    def apply(self, scores: Floats) -> Floats:
        """float64[N, K]."""
        x = self._slopes * evidence(scores) + self._intercepts
        # exp of what is positive overflows; so each side is written with the exp that does not.
        small = np.exp(-np.abs(x))
        return normalised(np.where(x >= 0, small, 1.0) / (1.0 + small))
