"""Isotonic calibration: the monotone curve that fits best.

Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability estimates"
(KDD 2002); several classes one against the rest, and then made to add up to 1.
"""

from typing import ClassVar

import numpy as np

from combiner.calibrators.protocol import Floats, normalised
from registry.certainty import IsotonicFit


class Isotonic:
    """Straight lines between the fit's knots, a curve for each column."""

    name: ClassVar[str] = "isotonic"

    def __init__(self, fit: IsotonicFit) -> None:
        self._curves = [(np.array(c.scores), np.array(c.probabilities)) for c in fit.curves]
        self._margin = fit.margin

    def apply(self, scores: Floats) -> Floats:
        """float64[N, K]."""
        columns = [
            np.interp(scores[:, place], knots, probabilities)
            for place, (knots, probabilities) in enumerate(self._curves)
        ]
        whole = normalised(np.column_stack(columns))
        return normalised(np.clip(whole, self._margin, 1.0 - self._margin))
