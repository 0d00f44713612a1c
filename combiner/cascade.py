"""Which events need the heavy models: those on which the cheap ones are uncertain.

Cascades after Viola & Jones ("Rapid object detection", 2001) and "I don't know" cascades (Wang et
al., 2018): most events are decided by models that cost next to nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from combiner.confidence import dispersion

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CascadeRule:
    """When the cheap models are uncertain.

    Attributes:
        low: from this calibrated score of the cheap ensemble on the heavy ones are asked …
        high: … up to this one, both included.
        max_dispersion: they are also asked where the cheap members' standard deviation is larger.
    """

    low: float
    high: float
    max_dispersion: float = np.inf

    def __post_init__(self) -> None:
        assert self.low <= self.high

    def escalates(self, scores: Floats, answers: Floats, present: Bools) -> Bools:
        """bool[N]: whether the heavy models are asked.

        Args:
            scores: float64[N], the calibrated score of the cheap members that answered; NaN where
                none did.
            answers: float64[N, M, K], calibrated; of the cheap members.
            present: bool[N, M], which of them answered.

        Where no cheap member answered, somebody else must: those events are escalated.
        """
        nobody = ~present.any(axis=1)
        inside = (scores >= self.low) & (scores <= self.high)
        apart = np.zeros(len(scores), dtype=np.bool_)
        if np.isfinite(self.max_dispersion):
            somebody = np.flatnonzero(~nobody)
            spread = dispersion(answers[somebody], present[somebody])
            apart[somebody] = spread > self.max_dispersion
        return nobody | inside | apart
