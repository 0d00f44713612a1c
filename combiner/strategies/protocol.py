"""What a strategy is: the arithmetic that makes one score of several."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Strategy(Protocol):
    """Combines the answers of whoever is present.

    Every strategy is defined for every non-empty subset of the members, and never treats an
    absent member as a member that answered zero. `scores` is float64[N, M], whose absent cells
    may hold anything; `present` is bool[N, M] with at least one True in each row.

    Attributes:
        name: as in the configuration.
        calibrated: whether `scores` are calibrated probabilities, or the models' raw answers.
        threshold: the score from which on the label is 1.
    """

    name: str
    calibrated: bool
    threshold: float

    def combine(self, scores: Floats, present: Bools) -> Floats:
        """float64[N]: the ensemble's scores."""
        ...

    def contributions(self, scores: Floats, present: Bools) -> Floats:
        """float64[N, M]: each member's share in the score, 0 where absent."""
        ...
