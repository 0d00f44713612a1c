"""Who need not be waited for: when an event may leave before every model has answered.

A quorum looks at rows of the join: float64[N, M, K] scores, and uint8[N, M] states of WAITING,
ANSWERED and REFUSED (`combiner.settled`). Reserves never count. A row must have the answers that
the rung `partial` asks for, or its quorum would turn it into a fallback.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.selection.constrained_subset import ConstrainedSubset
from combiner.settled import ANSWERED, WAITING
from combiner.strategies.protocol import Strategy

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
States = NDArray[np.uint8]

# Sums of a few weights and probabilities, in whatever order, differ by less than this.
ROUNDING = 1e-9
# Strategies in which a greater answer never lowers the score, and in which one more answer at the
# lower (upper) end of the range never raises (lowers) it.
MONOTONE = frozenset(
    {
        *("weighted_mean", "mean", "median", "trimmed_mean", "minimum", "maximum", "blending"),
        *("geometric_mean", "log_odds_pooling", "majority_vote", "equal_vote"),
        *("best_single", "first_to_answer"),
    }
)


class Quorum(Protocol):
    """Says which rows have heard enough."""

    def met(self, scores: Floats, states: States) -> Bools:
        """bool[N]."""
        ...


class ShareQuorum:
    """Enough weight has answered.

    Args:
        weights: float64[M], not negative; 0 for reserves.
        share: of the sum of weights, above 0 and at most 1.
        members: bool[M], who is no reserve.
        minimum_members: answers that there must be in any case.
    """

    def __init__(self, weights: Floats, share: float, members: Bools, minimum_members: int) -> None:
        assert 0.0 < share <= 1.0
        shown = weights * members
        self._weights: Floats = shown if shown.any() else members.astype(np.float64)
        self._enough = share * self._weights.sum() - ROUNDING
        self._members = members
        self._minimum_members = minimum_members

    def met(self, _scores: Floats, states: States) -> Bools:
        """bool[N]: refusals are no answers."""
        answered = (states == ANSWERED) & self._members
        met: Bools = answered @ self._weights >= self._enough
        met &= np.count_nonzero(answered, axis=1) >= self._minimum_members
        return met


class ChosenAnswered:
    """Everybody of a chosen subset has answered or refused, and somebody has answered.

    Args:
        subset: who is chosen; health may change it.
        members: bool[M], who is no reserve.
        minimum_members: answers that there must be in any case.
    """

    def __init__(self, subset: ConstrainedSubset, members: Bools, minimum_members: int) -> None:
        self._subset = subset
        self._members = members
        self._minimum_members = minimum_members

    def met(self, _scores: Floats, states: States) -> Bools:
        """bool[N]."""
        chosen = self._subset.chosen
        answered = states == ANSWERED
        met: Bools = (states[:, chosen] != WAITING).all(axis=1)
        met &= answered[:, chosen].any(axis=1)
        met &= np.count_nonzero(answered & self._members, axis=1) >= self._minimum_members
        return met


class CertainLabel:
    """No member that is still missing could change the label ("certain majority"); binary only.

    The score is worked out twice: with every missing answer at the lower end of the range, and
    with every one at the upper end. For the strategies in `MONOTONE` each score that is still
    possible, whoever answers whatever and whoever does not, lies between the two; so if both are
    on one side of the threshold, the label is known.

    Args:
        strategy: one of `MONOTONE`.
        calibrator: raw answers to probabilities.
        members: bool[M], who is no reserve.
        low: the least calibrated answer of any member.
        high: the greatest.
        minimum_members: answers that there must be in any case.
    """

    def __init__(
        self,
        strategy: Strategy,
        calibrator: Calibrator,
        members: Bools,
        low: float,
        high: float,
        minimum_members: int,
    ) -> None:
        assert strategy.name in MONOTONE, strategy.name
        assert np.isfinite([low, high]).all()
        self._strategy = strategy
        self._calibrator = calibrator
        self._members = members
        self._low, self._high = low, high
        self._minimum_members = minimum_members

    def met(self, scores: Floats, states: States) -> Bools:
        """bool[N]."""
        answered = (states == ANSWERED) & self._members
        waiting = (states == WAITING) & self._members
        met: Bools = np.count_nonzero(answered, axis=1) >= self._minimum_members
        rows = np.flatnonzero(met)
        if not len(rows):
            return met
        known = self._calibrator.apply(np.where(answered[rows, :, None], scores[rows], np.nan))
        present, missing = (answered | waiting)[rows], waiting[rows, :, None]
        least = self._strategy.combine(np.where(missing, self._low, known), present)[:, 0]
        most = self._strategy.combine(np.where(missing, self._high, known), present)[:, 0]
        threshold = self._strategy.threshold
        met[rows] = (least >= threshold + ROUNDING) | (most < threshold - ROUNDING)
        return met
