"""What an ensemble learns from its members' out-of-fold answers, on some of the rows or on all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.catalogue import strategy_named
from combiner.strategies.protocol import Ingredients, UsesFeatures
from combiner.strategies.stacking_with_features import meta_inputs
from lab.certainty import CertaintyOptions, Learn, Score, cross_combined, fit_certainty, subsets
from lab.combining import (
    fit_blending,
    fit_calibration,
    fit_stacking,
    meta_inputs_of,
    qualities,
    quantiles,
)
from lab.competence import fit_competence
from lab.targets import Target
from registry.certainty import Certainty
from registry.competence import Competence
from registry.manifest import Manifest
from streams.features import FeatureSchema

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# As `[combiner]` has it by default.
TRIM_SHARE = 0.2
# Enough that what is learned without a fold is nearly what is learned with all.
CROSS_FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The rows that an ensemble learned from.

    Attributes:
        members: names of the M members.
        schema: of the features.
        matrix: float64[N, F].
        answers: float64[N, M, K], raw and out of fold.
        target: of N rows.
    """

    members: tuple[str, ...]
    schema: FeatureSchema
    matrix: Floats
    answers: Floats
    target: Target

    def take(self, rows: Ints) -> "Learned":
        """Some of the rows."""
        return Learned(
            self.members,
            self.schema,
            self.matrix[rows],
            self.answers[rows],
            self.target.take(rows),
        )

    @property
    def labels(self) -> Floats:
        """float64[N]: 0 and 1, places of classes, or values."""
        return self.target.truth.astype(np.float64)


def learned_parts(learned: Learned, only: Sequence[str] | None = None) -> dict[str, Any]:
    """What the manifest says of how the members combine: all of it, or some fields."""
    found: dict[str, Any] = {"calibrations": _calibrations(learned)}
    calibrated = Calibrator(learned.members, found["calibrations"]).apply(learned.answers)
    for name in _PARTS if only is None else only:
        found[name] = _PARTS[name](learned, calibrated)
    return found


def competence_of(learned: Learned, calibrations: Any, seed: int) -> Competence:
    """Where each member is good."""
    return fit_competence(
        learned.members,
        learned.schema,
        learned.matrix,
        learned.answers,
        Calibrator(learned.members, calibrations).apply(learned.answers),
        learned.labels,
        seed=seed,
        classify=learned.target.task != "regression",
    )


def certainty_of(
    manifest: Manifest,
    learned: Learned,
    asked: Sequence[CertaintyOptions],
    *,
    seed: int,
    folds: int = CROSS_FOLDS,
) -> list[Certainty]:
    """How sure the scores of one strategy are, with equal weights, for each that is asked for.

    Raises:
        DataError: the rows do not allow what is asked for.
    """
    (strategy,) = {options.strategy for options in asked}
    combined = cross_combined(
        learner(manifest, learned, strategy),
        len(learned.answers),
        subsets(len(learned.members), seed),
        folds=folds,
        seed=seed,
    )
    answers = learned.answers
    return [
        fit_certainty(learned.members, combined, answers, learned.labels, options)
        for options in asked
    ]


def learner(manifest: Manifest, learned: Learned, strategy: str) -> Learn:
    """Learns a strategy anew from some of the rows, and scores others with it."""

    def learn(rows: Ints) -> Score:
        parts = learned_parts(learned.take(rows), _NEEDS.get(strategy, ()))
        fresh = msgspec.structs.replace(manifest, **parts)

        def score(test: Ints, present: Bools) -> Floats:
            return combined(fresh, strategy, learned.matrix[test], learned.answers[test], present)

        return score

    return learn


def combined(
    manifest: Manifest,
    strategy: str,
    features: Floats,
    answers: Floats,
    present: Bools,
    weights: Floats | None = None,
) -> Floats:
    """float64[N, K]: a strategy with equal weights on float64[N, M, K] raw answers, as live."""
    names = [model.name for model in manifest.models]
    nobody = np.zeros(len(names), dtype=np.bool_)
    alike = np.ones(len(names))
    made = strategy_named(strategy, Ingredients(names, nobody, alike, 0.5, TRIM_SHARE, manifest))
    if isinstance(made, UsesFeatures):
        made = made.given(features)
    if made.calibrated:
        answers = Calibrator(names, manifest.calibrations).apply(answers)
    return made.combine(answers, present, weights)


def _calibrations(learned: Learned) -> dict[str, Any]:
    if learned.target.task != "binary":
        return {}
    labels = learned.target.truth.astype(np.int64)
    return {
        name: fit_calibration(learned.answers[:, i, 0], labels)
        for i, name in enumerate(learned.members)
    }


def _stacking(learned: Learned, _: Floats) -> Any:
    target = learned.target
    return fit_stacking(learned.members, learned.answers, target.truth, target.task)


def _stacking_with_features(learned: Learned, _: Floats) -> Any:
    inputs = meta_inputs_of(learned.schema, learned.matrix)
    beside = (inputs, meta_inputs(inputs, learned.matrix))
    target = learned.target
    return fit_stacking(learned.members, learned.answers, target.truth, target.task, beside)


def _blending(learned: Learned, calibrated: Floats) -> Any:
    weights = fit_blending(calibrated, learned.target.truth, learned.target.task)
    return dict(zip(learned.members, weights.tolist(), strict=True))


def _quality(learned: Learned, calibrated: Floats) -> Any:
    found = qualities(calibrated, learned.target.truth, learned.target.task)
    return dict(zip(learned.members, found.tolist(), strict=True))


def _quantiles(learned: Learned, _: Floats) -> Any:
    return {name: quantiles(learned.answers[:, i]) for i, name in enumerate(learned.members)}


_PARTS: dict[str, Callable[[Learned, Floats], Any]] = {
    "stacking": _stacking,
    "stacking_with_features": _stacking_with_features,
    "blending": _blending,
    "quality": _quality,
    "quantiles": _quantiles,
}
# Strategy → what it needs beside the members' calibrations.
_NEEDS = {
    "stacking": ("stacking",),
    "stacking_with_features": ("stacking_with_features",),
    "blending": ("blending",),
    "best_single": ("quality",),
    "rank_mean": ("quantiles",),
}
