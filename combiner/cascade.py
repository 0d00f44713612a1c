"""Which events need the heavy models: those on which the cheap ones are uncertain.

Cascades after Viola & Jones ("Rapid object detection", 2001) and "I don't know" cascades (Wang et
al., 2018): most events are decided by models that cost next to nothing.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.confidence import dispersion
from combiner.fallback import PARTIAL, Ladder
from combiner.refinement import NO_REFINEMENT, Refinement
from combiner.settled import ANSWERED
from combiner.strategies.protocol import Strategy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
States = NDArray[np.uint8]


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


class Cascade(Protocol):
    """Says of whole rows of the join which events need the heavy models.

    Attributes:
        heavy: bool[M], which columns are asked only if told so; never all members.
    """

    heavy: Bools

    def escalates(self, scores: Floats, states: States) -> Bools:
        """bool[N], of float64[N, M, K] raw answers and uint8[N, M] states."""
        ...


class UncertainScore:
    """Asks the rule of the score that would be published without the heavy models.

    Of several classes it is the probability of the likeliest. Events for whose score too few of
    the others answered are escalated too: a heavy model is better than a fallback. Whatever heavy
    models say unasked plays no part, so that the same answers always lead to the same question.

    Args:
        rule: when a score is uncertain.
        heavy: see `Cascade`.
        ladder: which rungs there are.
        calibrator: raw answers to probabilities.
        strategy: how answers are combined.
        refinement: what is made of its scores; selects nobody.
    """

    def __init__(
        self,
        rule: CascadeRule,
        heavy: Bools,
        ladder: Ladder,
        calibrator: Calibrator,
        strategy: Strategy,
        refinement: Refinement = NO_REFINEMENT,
    ) -> None:
        assert refinement.selection is None
        assert not (heavy & ladder.reserves).any()
        self.heavy = heavy
        self._rule = rule
        self._cheap = np.flatnonzero(~heavy & ~ladder.reserves)
        self._ladder = ladder
        self._calibrator = calibrator
        self._strategy = strategy
        self._refinement = refinement

    def escalates(self, scores: Floats, states: States) -> Bools:
        """bool[N]."""
        present = np.zeros(states.shape, dtype=np.bool_)
        present[:, self._cheap] = states[:, self._cheap] == ANSWERED
        unasked = np.broadcast_to(self.heavy, present.shape)
        enough = self._ladder.rungs_of(present, unasked) <= PARTIAL
        raw = np.where(present[:, :, None], scores, np.nan)
        calibrated = self._calibrator.apply(raw)
        found = np.full(len(states), np.nan)
        rows = np.flatnonzero(present.any(axis=1))
        if len(rows):
            answers = (calibrated if self._strategy.calibrated else raw)[rows]
            combined = self._strategy.combine(answers, present[rows])
            combined, _ = self._refinement.finished(combined, calibrated[rows], present[rows], None)
            found[rows] = combined.max(axis=1)
        cheap = self._cheap
        return ~enough | self._rule.escalates(found, calibrated[:, cheap], present[:, cheap])
