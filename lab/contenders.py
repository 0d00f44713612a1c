"""Everything that can make one score of the members of a bundle, as it would live.

Members alone, strategies, selections, calibrated ensembles, a pruned mean and cascades: each gives
float64[N] probabilities for the same rows, and each must do with whoever is present.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.catalogue import catalogue
from combiner.recalibration import Recalibrator
from combiner.selection.protocol import Context
from combiner.selection.segment_weights import SegmentWeights
from combiner.selections import NAMES, Known, Segmentation, SelectionOptions, selection_of
from lab.learning import combined
from lab.pruning import greedy_weights
from registry.certainty import Certainty
from registry.competence import Competence
from registry.manifest import Manifest

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# A member's part in the mean below which it is pruned.
PRUNED_BELOW = 0.05
# Members that a selection of several keeps.
KEPT = 2


@dataclass(frozen=True, slots=True)
class Rows:
    """N rows to score: float64[N, F] features and float64[N, M, K] raw answers."""

    features: Floats
    answers: Floats


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to score.

    Attributes:
        name: for tables.
        kind: `member`, `strategy`, `selection`, `calibration` or `pruning`.
        score: rows and bool[N, M] present → float64[N].
        needs: the member without which it is nothing, if there is one.
    """

    name: str
    kind: str
    score: Callable[[Rows, Bools], Floats]
    needs: int | None = None


@dataclass(frozen=True, slots=True)
class Fold:
    """A trained ensemble, and what it learned beside.

    Attributes:
        manifest: of its bundle.
        competence: see `registry.competence`.
        certainties: fits of calibrations to try, by their name.
        segments: how `segment_weights` tells events apart; without, it does not take part.
    """

    manifest: Manifest
    competence: Competence
    certainties: Mapping[str, Certainty] = field(default_factory=dict)
    segments: Segmentation | None = None

    @property
    def members(self) -> list[str]:
        """The names of the members."""
        return [model.name for model in self.manifest.models]

    def calibrated(self, answers: Floats) -> Floats:
        """float64[N, M, K], as probabilities."""
        return Calibrator(self.members, self.manifest.calibrations).apply(answers)

    def combined(
        self, name: str, rows: Rows, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, K]: what that strategy makes of the rows."""
        return combined(self.manifest, name, rows.features, rows.answers, present, weights)


def contenders_of(fold: Fold) -> list[Contender]:
    """All of them, members first."""
    return [
        *_members(fold),
        *_strategies(fold),
        *_selections(fold),
        *_calibrations(fold),
        _pruned(fold),
    ]


def _members(fold: Fold) -> list[Contender]:
    def alone(column: int) -> Callable[[Rows, Bools], Floats]:
        return lambda rows, _: fold.calibrated(rows.answers)[:, column, 0]

    return [
        Contender(name, "member", alone(column), needs=column)
        for column, name in enumerate(fold.members)
    ]


def _strategies(fold: Fold) -> list[Contender]:
    def by(name: str) -> Callable[[Rows, Bools], Floats]:
        return lambda rows, present: fold.combined(name, rows, present)[:, 0]

    task = fold.manifest.task
    return [
        Contender(name, "strategy", by(name))
        for name, kind in catalogue().items()
        if task in kind.tasks
    ]


def _selections(fold: Fold) -> list[Contender]:
    known = Known(
        fold.members,
        np.zeros(len(fold.members), dtype=np.bool_),
        np.zeros(len(fold.members)),
        fold.manifest.schema,
        fold.competence,
        fold.calibrated(fold.competence.answers.array),
    )

    def by(options: SelectionOptions) -> Callable[[Rows, Bools], Floats]:
        selection = selection_of(options, known)

        def score(rows: Rows, present: Bools) -> Floats:
            context = Context(np.zeros(len(present), dtype=np.int64), {})
            weights = selection.weights(rows.features, context, present)
            return fold.combined("weighted_mean", rows, present & (weights > 0), weights)[:, 0]

        return score

    names = [name for name in NAMES if fold.segments or name != SegmentWeights.name]
    return [
        Contender(
            name,
            "selection",
            by(SelectionOptions(name, best=KEPT, max_models=KEPT, segments=fold.segments)),
        )
        for name in names
    ]


def _calibrations(fold: Fold) -> list[Contender]:
    def by(certainty: Certainty) -> Callable[[Rows, Bools], Floats]:
        columns = [fold.members.index(name) for name in certainty.members]
        calibrator = Recalibrator(columns, certainty.calibrations)

        def score(rows: Rows, present: Bools) -> Floats:
            scores = fold.combined(certainty.strategy, rows, present)
            return calibrator.apply(scores, present)[:, 0]

        return score

    return [
        Contender(name, "calibration", by(certainty))
        for name, certainty in fold.certainties.items()
    ]


def _pruned(fold: Fold) -> Contender:
    answers = fold.calibrated(fold.competence.answers.array)[:, :, 0]
    weights = greedy_weights(answers, fold.competence.labels.array)
    weights = np.where(weights < PRUNED_BELOW, 0.0, weights)

    def score(rows: Rows, present: Bools) -> Floats:
        given = np.tile(weights, (len(present), 1))
        return fold.combined("weighted_mean", rows, present, given)[:, 0]

    return Contender("greedy_pruning", "pruning", score)
