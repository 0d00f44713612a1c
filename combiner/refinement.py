"""What is made of the members' answers beside the strategy.

Before it: which members count for an event (`combiner.selection`). After it: the score as a
calibrated probability, and the labels or the range that hold the truth as often as promised. All
of it is optional, and none of it concerns reserves, cached scores or the prior.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from combiner.conformal import PredictionIntervals, PredictionSets
from combiner.facts import Facts
from combiner.recalibration import Recalibrator
from combiner.selection.constrained_subset import ConstrainedSubset
from combiner.selection.protocol import Selection

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Promises:
    """What holds the truth with probability `coverage`, for N events.

    Attributes:
        coverage: the promised share.
        known: bool[N], whether anything is promised of an event.
        inside: bool[N, C], which labels are in the set; None for regression.
        ranges: float64[N, 2], from and to; None for classes.
    """

    coverage: float
    known: Bools
    inside: Bools | None = None
    ranges: Floats | None = None

    def spread(self, count: int, rows: Ints) -> "Promises":
        """The promises of some rows of `count` as those of all; of the others nothing is known."""
        known = np.zeros(count, dtype=np.bool_)
        known[rows] = self.known
        inside, ranges = self.inside, self.ranges
        if inside is not None:
            whole = np.zeros((count, inside.shape[1]), dtype=np.bool_)
            whole[rows] = inside
            inside = whole
        if ranges is not None:
            spread = np.full((count, 2), np.nan)
            spread[rows] = ranges
            ranges = spread
        return Promises(self.coverage, known, inside, ranges)


@dataclass(frozen=True, slots=True)
class Refinement:
    """The optional parts.

    Attributes:
        selection: chooses members; None is all that answered.
        recalibrator: makes probabilities of the ensemble's scores.
        sets: of labels, for classes.
        intervals: of values, for regression.
    """

    selection: Selection | None = None
    recalibrator: Recalibrator | None = None
    sets: PredictionSets | None = None
    intervals: PredictionIntervals | None = None
    headers: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        assert self.sets is None or self.intervals is None
        wanted = () if self.selection is None else self.selection.headers
        object.__setattr__(self, "headers", wanted)

    def heed(self, healthy: Bools) -> None:
        """The health of a member has changed: bool[M] of the members that are well."""
        if isinstance(self.selection, ConstrainedSubset):
            self.selection.update(healthy)

    def chosen(self, facts: Facts | None, present: Bools) -> tuple[Bools, Floats | None]:
        """bool[N, M] of those who count, and float64[N, M] how much; None is as configured."""
        if self.selection is None or facts is None:
            return present, None
        weights = self.selection.weights(facts.features, facts.context, present)
        return present & (weights > 0), weights

    def finished(
        self, scores: Floats, answers: Floats, used: Bools, facts: Facts | None
    ) -> tuple[Floats, Promises | None]:
        """The ensemble's scores, calibrated, and what is promised of them.

        Args:
            scores: float64[N, K], the strategy's.
            answers: float64[N, M, K], the members', as probabilities where they are calibrated.
            used: bool[N, M], whose answers made the scores.
            facts: for sets, see there.
        """
        promises: Promises | None = None
        everything = np.ones(len(scores), dtype=np.bool_)
        if self.sets is not None and facts is not None:
            inside = self.sets.of(scores, used, facts.chance)
            promises = Promises(self.sets.coverage, everything, inside=inside)
        elif self.intervals is not None:
            ranges = self.intervals.of(scores, answers, used)
            promises = Promises(self.intervals.coverage, everything, ranges=ranges)
        if self.recalibrator is not None:
            scores = self.recalibrator.apply(scores, used)
        return scores, promises


NO_REFINEMENT = Refinement()
