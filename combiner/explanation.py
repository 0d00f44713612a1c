"""Why a score is what it is: how far its members agree, and whose absence would have mattered.

Shapes, for N events, M models and K numbers an answer: K is 1 for a binary classifier and for
regression, and the number of classes for multi-class. What each member contributed is the
strategy's own to say (`combiner.strategies.protocol`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from combiner.confidence import agreement, dispersion, entropy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# The float64[L, K] scores of some of the events, int64[L], had just bool[L, M] answered.
Rescore = Callable[[Ints, Bools], Floats]
# From float64[N, K] to int64[N].
Label = Callable[[Floats], Ints]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say of N decisions.

    Rows without a used member hold NaN and False. So does for regression whatever needs labels.

    Attributes:
        agreement: float64[N], share of the used members' weight that has the ensemble's label.
        dispersion: float64[N], standard deviation of the used members' answers.
        entropy: float64[N], of the score, from 0 (certain) to 1 (anything is as likely).
        consensus: bool[N], whether all used members have the ensemble's label.
        without: float64[N, M, K], the score had a member been absent; NaN where it was not used,
            or where it was the only one.
        decisive: bool[N, M], whether the label would then have been another.
    """

    agreement: Floats
    dispersion: Floats
    entropy: Floats
    consensus: Bools
    without: Floats
    decisive: Bools

    @classmethod
    def nothing(cls, count: int, members: int, columns: int) -> "Explanation":
        """Of N events nothing, yet."""
        return cls(
            np.full(count, np.nan),
            np.full(count, np.nan),
            np.full(count, np.nan),
            np.zeros(count, np.bool_),
            np.full((count, members, columns), np.nan),
            np.zeros((count, members), np.bool_),
        )

    def put(self, rows: Ints, found: "Explanation") -> None:
        """What was found of some rows."""
        self.agreement[rows] = found.agreement
        self.dispersion[rows] = found.dispersion
        self.entropy[rows] = found.entropy
        self.consensus[rows] = found.consensus
        self.without[rows] = found.without
        self.decisive[rows] = found.decisive


@dataclass(frozen=True, slots=True)
class Labels:
    """How labels come about: the ensemble's, and each member's."""

    ensemble: Label
    member: Label


def leave_one_out(rescore: Rescore, used: Bools, present: Bools, columns: int) -> Floats:
    """float64[N, M, K]: the scores had each used member in turn been absent.

    At most M combinations of whole batches, however many events there are. NaN where the member
    was not used, or where nobody is left without it.

    Args:
        rescore: as the decisions were made.
        used: bool[N, M], who made the scores.
        present: bool[N, M], who could have: where members are selected, another one may take the
            place of the one that is gone.
        columns: K, numbers of a score.
    """
    without = np.full((*used.shape, columns), np.nan)
    several = np.count_nonzero(present, axis=1) > 1
    for member in range(used.shape[1]):
        rows = np.flatnonzero(used[:, member] & several)
        if len(rows):
            others = present[rows]
            others[:, member] = False
            without[rows, member] = rescore(rows, others)
    return without


def explain(
    rescore: Rescore,
    opinions: Floats,
    used: Bools,
    present: Bools,
    scores: Floats,
    weights: Floats,
    labels: Labels | None,
) -> Explanation:
    """Explain decisions.

    Args:
        rescore: as the decisions were made.
        opinions: float64[N, M, K], the answers as probabilities, to compare members by; cells
            that were not used may hold anything.
        used: bool[N, M], whose answers were combined.
        present: bool[N, M], whose answers there were to choose from.
        scores: float64[N, K], what came of them.
        weights: float64[M], how much each member counts in the agreement.
        labels: how labels come about; None for regression.
    """
    rows = np.flatnonzero(used.any(axis=1))
    found = Explanation.nothing(*opinions.shape)
    here = used[rows]
    given = np.where(here[:, :, None], opinions[rows], 0.0)
    found.without[:] = leave_one_out(rescore, used, present, opinions.shape[2])
    found.dispersion[rows] = dispersion(given, here)
    if labels is not None and len(rows):
        ours = labels.ensemble(scores[rows])
        theirs = _per_member(labels.member, given)
        found.agreement[rows] = agreement(theirs, ours, here, weights)
        found.entropy[rows] = entropy(scores[rows])
        found.consensus[rows] = ((theirs == ours[:, None]) | ~here).all(axis=1)
        left = found.without[rows]
        known: Bools = np.asarray(~np.isnan(left).any(axis=2))
        others = _per_member(labels.ensemble, np.where(known[:, :, None], left, 0.0))
        found.decisive[rows] = known & (others != ours[:, None])
    return found


def _per_member(label: Label, answers: Floats) -> Ints:
    """int64[N, M] of float64[N, M, K]."""
    count, members, columns = answers.shape
    return label(answers.reshape(count * members, columns)).reshape(count, members)
