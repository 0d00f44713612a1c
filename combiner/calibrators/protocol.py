"""What a calibrator is: a map from scores to probabilities, alike for all events."""

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Beyond these a probability says no more than "certain", and its logarithm would drown the rest.
CLIP = 1e-6


class ScoreCalibrator(Protocol):
    """Maps float64[N, K] scores, K as in `combiner.strategies.protocol`, to probabilities.

    For multi-class each row of the result adds up to 1. NaN stays NaN.
    """

    name: ClassVar[str]

    def apply(self, scores: Floats) -> Floats:
        """A calibrated copy."""
        ...


def evidence(scores: Floats) -> Floats:
    """Log-odds of a single column of probabilities, logarithms of several; any N."""
    clipped = np.clip(scores, CLIP, 1.0 - CLIP)
    return np.log(clipped / (1.0 - clipped)) if scores.shape[1] == 1 else np.log(clipped)


def normalised(probabilities: Floats) -> Floats:
    """Rows of several columns made to add up to 1; all alike where all are 0."""
    if probabilities.shape[1] == 1:
        return probabilities
    totals = probabilities.sum(axis=1, keepdims=True)
    alike = np.full_like(probabilities, 1.0 / probabilities.shape[1])
    shares: Floats = np.divide(probabilities, totals, out=alike, where=totals != 0.0)
    return shares
