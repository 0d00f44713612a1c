"""From settings and a bundle to a refinement: selection, calibration, promises, threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.catalogue import catalogue
from combiner.conformal import SET_METHODS, PredictionIntervals, PredictionSets
from combiner.facts import FactsWanted
from combiner.quorum import ChosenAnswered
from combiner.recalibration import Recalibrator
from combiner.refinement import NO_REFINEMENT, Refinement
from combiner.selection.constrained_subset import ConstrainedSubset
from combiner.selection.segment_weights import SegmentWeights
from combiner.selections import Known, Segmentation, SelectionOptions, selection_of
from registry.bundle import LoadedBundle, read_certainty, read_competence
from registry.certainty import CERTAINTY_NAME, Certainty
from registry.competence import Competence
from registry.manifest import Manifest
from streams.errors import ConfigurationError
from streams.settings import Settings

ALL = "all"


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a bundle knows beside its manifest; None is nothing."""

    competence: Competence | None = None
    certainty: Certainty | None = None


NO_KNOWLEDGE = Knowledge()


def knowledge_of(bundle: LoadedBundle, settings: Settings) -> Knowledge:
    """What of it the settings need.

    Raises:
        BundleError: a file is missing, changed or malformed.
    """
    wanted = settings.certainty
    return Knowledge(
        read_competence(bundle) if settings.selection.method != ALL else None,
        read_certainty(bundle) if wanted.calibrate or wanted.promise or wanted.threshold else None,
    )


def facts_wanted(settings: Settings) -> FactsWanted | None:
    """What events are decided with a look at beside answers; None is nothing."""
    features = _wants_features(settings)
    selection = settings.selection
    headers: tuple[str, ...] = ()
    if selection.method == SegmentWeights.name and selection.by.startswith("header:"):
        headers = (selection.by.removeprefix("header:"),)
    if features or selection.method != ALL or settings.certainty.promise:
        return FactsWanted(features, headers)
    return None


def _wants_features(settings: Settings) -> bool:
    selection = settings.selection
    if selection.method == SegmentWeights.name:
        return selection.by.startswith("feature:")
    looks = hasattr(catalogue()[settings.combiner.strategy], "given")
    return looks or selection.method not in {ALL, ConstrainedSubset.name}


def threshold_of(settings: Settings, certainty: Certainty | None) -> float:
    """From which score on a label is 1: the bundle's threshold, if it is asked for.

    Raises:
        ConfigurationError: the bundle has none, or not for this ensemble.
    """
    if not settings.certainty.threshold:
        return settings.combiner.threshold
    known = _certainty(settings, certainty, "threshold")
    found = known.threshold
    if found is None:
        raise ConfigurationError(
            "certainty.threshold", "the bundle has none; train it with `--threshold`"
        )
    if bool(known.calibrations) != settings.certainty.calibrate:
        expected = "true" if known.calibrations else "false"
        raise ConfigurationError(
            "certainty.threshold",
            f"the bundle's was chosen with certainty.calibrate = {expected}; expected the same",
        )
    return found.threshold


def refinement_of(settings: Settings, manifest: Manifest, knowledge: Knowledge) -> Refinement:
    """What the settings ask for.

    Raises:
        ConfigurationError: the bundle does not know it, or not for this ensemble.
    """
    wanted = settings.certainty
    if settings.selection.method == ALL and not (wanted.calibrate or wanted.promise):
        return NO_REFINEMENT
    models = [model.name for model in settings.models]
    recalibrator, sets, intervals = None, None, None
    if wanted.calibrate:
        certainty = _certainty(settings, knowledge.certainty, "calibrate")
        if not certainty.calibrations:
            raise ConfigurationError(
                "certainty.calibrate", "the bundle has none; train it with `--calibration`"
            )
        columns = [models.index(name) for name in certainty.members]
        recalibrator = Recalibrator(columns, certainty.calibrations)
    if wanted.promise:
        certainty = _certainty(settings, knowledge.certainty, "promise")
        if certainty.conformal is None:
            raise ConfigurationError(
                "certainty.promise", "the bundle has none; train it with `--coverage`"
            )
        columns = [models.index(name) for name in certainty.members]
        if certainty.conformal.method in SET_METHODS:
            sets = PredictionSets(certainty.conformal, columns)
        else:
            intervals = PredictionIntervals(certainty.conformal, columns)
    selection = None
    if settings.selection.method != ALL:
        selection = selection_of(_options(settings), _known(settings, manifest, knowledge))
    return Refinement(selection, recalibrator, sets, intervals)


def chosen_quorum(
    settings: Settings, refinement: Refinement, members: NDArray[np.bool_]
) -> ChosenAnswered | None:
    """Nobody waits for members that a constrained subset leaves out; None without one.

    Raises:
        ConfigurationError: the subset does not fit the quorum or the ladder.
    """
    subset, fallback = refinement.selection, settings.fallback
    if not isinstance(subset, ConstrainedSubset):
        return None
    if settings.combiner.quorum != "all":
        raise ConfigurationError(
            "combiner.quorum", 'a constrained subset is its own quorum; expected "all"'
        )
    if "partial" not in fallback.ladder:
        raise ConfigurationError(
            "selection.method",
            "a subset needs the rung `partial`; expected it in fallback.ladder",
        )
    if settings.selection.max_models < fallback.minimum_members:
        raise ConfigurationError(
            "selection.max_models",
            f"{settings.selection.max_models} is below fallback.minimum_members "
            f"{fallback.minimum_members}, so every event would fall through the ladder",
        )
    return ChosenAnswered(subset, members, fallback.minimum_members)


def _certainty(settings: Settings, certainty: Certainty | None, asked: str) -> Certainty:
    """The bundle's, if it is about the ensemble that is configured."""
    place = f"certainty.{asked}"
    if certainty is None:
        raise ConfigurationError(
            place,
            f"the bundle has no {CERTAINTY_NAME}; train it with `--calibration`, `--coverage` or "
            "`--threshold`",
        )
    if certainty.strategy != settings.combiner.strategy:
        raise ConfigurationError(
            place,
            f"the bundle knows it of the strategy `{certainty.strategy}`, and "
            f"`{settings.combiner.strategy}` is configured; train it with `--strategy`",
        )
    members = {model.name for model in settings.models if not model.reserve}
    if members != set(certainty.members):
        raise ConfigurationError(
            place, f"the bundle knows it of the members {', '.join(certainty.members)} together"
        )
    if len({model.weight for model in settings.models if not model.reserve}) > 1:
        raise ConfigurationError(place, "the bundle knows it of members with equal weights")
    if settings.selection.method != ALL:
        raise ConfigurationError(
            place, 'the bundle knows it without a selection; expected selection.method = "all"'
        )
    return certainty


def _options(settings: Settings) -> SelectionOptions:
    asked = settings.selection
    budget = np.inf if asked.latency_budget_ms is None else float(asked.latency_budget_ms)
    return SelectionOptions(
        asked.method,
        asked.neighbours,
        asked.best,
        asked.max_models,
        budget,
        asked.min_diversity,
        Segmentation(asked.by, asked.edges, asked.values, asked.weights) if asked.by else None,
    )


def _known(settings: Settings, manifest: Manifest, knowledge: Knowledge) -> Known:
    competence = knowledge.competence
    calibrated: NDArray[np.float64] = np.empty((0, 0, manifest.columns))
    if competence is not None:
        calibrator = Calibrator(competence.members, manifest.calibrations)
        calibrated = calibrator.apply(competence.answers.array)
    return Known(
        [model.name for model in settings.models],
        np.array([model.reserve for model in settings.models], dtype=np.bool_),
        np.array([float(model.expected_latency_ms or 0) for model in settings.models]),
        manifest.schema,
        competence,
        calibrated,
        manifest.task != "regression",
    )
