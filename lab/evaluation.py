"""Every way to combine against the best single model, by repeated cross-validation.

Each fold trains a whole ensemble on the other folds, exactly as `ensemble train` does, loads it
from its bundle, and scores the rows that it has not seen: once with all members, and once with
members dropped at random, since that is what happens live.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from combiner.cascade import CascadeRule
from combiner.conformal import SET_METHODS, PredictionSets, chances
from combiner.selections import Segmentation
from lab.calibrating import CalibrationMethod
from lab.certainty import CertaintyOptions
from lab.contenders import Fold, Rows, contenders_of
from lab.learning import certainty_of
from lab.members import members_named
from lab.metrics import evaluate
from lab.progress import Progress, silent
from lab.table import Table, encode, labels, read_table
from lab.train import TrainingResult, train
from registry.bundle import write_bundle
from registry.certainty import Certainty
from registry.competence import COMPETENCE_NAME, decode_competence
from streams.errors import DataError
from streams.settings import ModelSettings
from workers.loading import load_models

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

METRICS = ("auc", "log_loss", "brier", "ece")
# What each fold asks of the conformal methods.
COVERAGE = 0.9
CALIBRATED = ("mean", "stacking")
CALIBRATIONS: tuple[CalibrationMethod, ...] = ("isotonic", "platt", "temperature")
CONFORMAL = "stacking"
CROSS_FOLDS = 3
# Shares of the events that a cascade may send on to the heavy models.
ESCALATED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        repeats: how often the rows are split anew.
        folds: parts of each split, of which one at a time is tested on.
        inner_folds: folds of the out-of-fold answers in each training.
        drop: how likely each member is missing, in the runs with members dropped.
        seed: of everything that is drawn.
        members: names of `lab.members.MEMBERS`; None is all.
        cheap: the cheap members of a cascade; none is no cascade.
        segments: for `segment_weights`.
    """

    repeats: int = 2
    folds: int = 5
    inner_folds: int = 5
    drop: float = 0.2
    seed: int = 0
    members: tuple[str, ...] | None = None
    cheap: tuple[str, ...] = ()
    segments: Segmentation | None = None


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What one fold found.

    Attributes:
        whole: contender → metric → value, with all members.
        dropped: the same with members dropped at random; without the members alone.
        kinds: contender → kind.
        coverage: (method, how many members are missing) → share covered, mean size of the sets.
        cascade: wanted share → share escalated, and metrics.
        scores: contender → float64[T] with all members, for curves.
        labels: int64[T].
    """

    whole: dict[str, dict[str, float]]
    dropped: dict[str, dict[str, float]]
    kinds: dict[str, str]
    coverage: dict[tuple[str, int], tuple[float, float]]
    cascade: dict[float, dict[str, float]]
    scores: dict[str, Floats]
    labels: Ints


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All folds, and what they were made with."""

    source: str
    rows: int
    positive_share: float
    options: EvaluationOptions
    members: tuple[str, ...]
    folds: tuple[FoldResult, ...]


def evaluate_data(
    data: Path,
    label: str,
    id_: str | None,
    options: EvaluationOptions,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate on a file; `ensemble evaluate` is this function.

    Raises:
        DataError: the file cannot be trained on, or the options do not fit it.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold

    table = read_table(data)
    truth = labels(table, label)
    names = tuple(member.name for member in members_named(options.members, "binary"))
    strange = [name for name in options.cheap if name not in names]
    if strange or len(options.cheap) == len(names):
        raise DataError(
            f"cheap: {', '.join(options.cheap)}; expected some, not all, of {', '.join(names)}"
        )
    splitter = RepeatedStratifiedKFold(
        n_splits=options.folds, n_repeats=options.repeats, random_state=options.seed
    )
    splits = list(splitter.split(np.zeros(len(truth)), truth))
    progress("folds", 0, len(splits))
    found = []
    for number, (learn, test) in enumerate(splits):
        found.append(
            _fold(table, label, id_, truth, np.sort(learn), np.sort(test), number, options)
        )
        progress("folds", number + 1, len(splits))
    share = float(truth.mean())
    return Evaluation(data.name, len(truth), share, options, names, tuple(found))


def _fold(
    table: Table,
    label: str,
    id_: str | None,
    truth: Ints,
    learn: Ints,
    test: Ints,
    number: int,
    options: EvaluationOptions,
) -> FoldResult:
    """Train on some rows, score the others in every way."""
    result = train(
        table.take(learn),
        label,
        id_,
        fingerprint="0" * 64,
        holdout=0.0,
        folds=options.inner_folds,
        seed=options.seed + number,
        members=options.members,
    )
    features = encode(table.take(test), result.manifest.schema)
    rows = Rows(features, _answers(result, features))
    certainties = _certainties(result, options.seed + number)
    fold = Fold(
        result.manifest,
        decode_competence(result.artefacts[COMPETENCE_NAME]),
        {name: found for name, found in certainties.items() if found.calibrations},
        options.segments,
    )
    contenders = contenders_of(fold)
    everybody = np.ones(rows.answers.shape[:2], dtype=np.bool_)
    some = _dropped(everybody, options.drop, options.seed + number)
    whole = {each.name: each.score(rows, everybody) for each in contenders}
    partly = {
        each.name: each.score(_blanked(rows, some), some)
        for each in contenders
        if each.needs is None
    }
    facts = truth[test]
    return FoldResult(
        whole={name: evaluate(facts, scores) for name, scores in whole.items()},
        dropped={name: evaluate(facts, scores) for name, scores in partly.items()},
        kinds={each.name: each.kind for each in contenders},
        coverage=_coverage(fold, certainties, rows, facts, number),
        cascade=_cascade(fold, result, rows, facts, options),
        scores=whole,
        labels=facts,
    )


def _answers(result: TrainingResult, features: Floats) -> Floats:
    """float64[N, M, K], by the models as they are loaded from a bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        bundle = write_bundle(Path(scratch, "bundle"), result.manifest, result.artefacts)
        names = [ModelSettings(name=model.name) for model in result.manifest.models]
        models = load_models(names, bundle)
        answers = np.stack([np.asarray(model.predict(features)) for model in models], axis=1)
    return answers.reshape(len(features), len(models), -1).astype(np.float64)


def _dropped(everybody: Bools, drop: float, seed: int) -> Bools:
    """Some members missing in each row, but never all."""
    random = np.random.default_rng(seed)
    present = random.random(everybody.shape) >= drop
    nobody = np.flatnonzero(~present.any(axis=1))
    present[nobody, random.integers(0, everybody.shape[1], len(nobody))] = True
    return present


def _blanked(rows: Rows, present: Bools) -> Rows:
    """Absent answers as NaN, so that nobody can peek."""
    return Rows(rows.features, np.where(present[:, :, None], rows.answers, np.nan))


def _certainties(result: TrainingResult, seed: int) -> dict[str, Certainty]:
    """Each calibration of some strategies, and both conformal methods, from training rows."""
    found: dict[str, Certainty] = {}
    for strategy in CALIBRATED:
        asked = {
            f"{strategy} + {method}": CertaintyOptions(strategy, calibration=method)
            for method in CALIBRATIONS
        }
        if strategy == CONFORMAL:
            for kind in SET_METHODS:
                asked[kind] = CertaintyOptions(strategy, conformal=kind, coverage=COVERAGE)
        fitted = certainty_of(
            result.manifest,
            result.learned,
            list(asked.values()),
            seed=seed,
            folds=CROSS_FOLDS,
        )
        found |= dict(zip(asked, fitted, strict=True))
    return found


def _coverage(
    fold: Fold, certainties: dict[str, Certainty], rows: Rows, facts: Ints, number: int
) -> dict[tuple[str, int], tuple[float, float]]:
    """How often sets hold the truth, and their size, by how many members are missing."""
    count = len(fold.members)
    random = np.random.default_rng(number)
    found: dict[tuple[str, int], tuple[float, float]] = {}
    everything = np.arange(len(facts))
    for method in SET_METHODS:
        conformal = certainties[method].conformal
        assert conformal is not None
        sets = PredictionSets(conformal, list(range(count)))
        for missing in range(count):
            order = np.argsort(random.random((len(facts), count)), axis=1)
            present = order >= missing
            scores = fold.combined(CONFORMAL, _blanked(rows, present), present)
            inside = sets.of(scores, present, chances(number, everything))
            covered = inside[everything, facts].mean()
            found[method, missing] = float(covered), float(inside.sum(axis=1).mean())
    return found


def _cascade(
    fold: Fold, result: TrainingResult, rows: Rows, facts: Ints, options: EvaluationOptions
) -> dict[float, dict[str, float]]:
    """Metrics where the heavy members are asked for the most uncertain events only.

    The band is chosen on training rows: as wide around the middle as to hold the wanted share.
    """
    if not options.cheap:
        return {}
    cheap = np.array([member in options.cheap for member in fold.members])
    learned = result.learned
    inner = Rows(learned.matrix, learned.answers)

    def by(rows_: Rows, who: Bools) -> Floats:
        present = np.tile(who, (len(rows_.features), 1))
        return fold.combined(CONFORMAL, _blanked(rows_, present), present)[:, 0]

    uncertainty = np.abs(by(inner, cheap) - 0.5)
    cheap_scores, full = by(rows, cheap), by(rows, np.ones(len(cheap), dtype=np.bool_))
    found: dict[float, dict[str, float]] = {}
    for wanted in ESCALATED:
        if wanted in {0.0, 1.0}:
            sent = np.full(len(facts), wanted == 1.0)
        else:
            width = float(np.quantile(uncertainty, wanted))
            rule = CascadeRule(0.5 - width, 0.5 + width)
            answers = rows.answers[:, cheap]
            sent = rule.escalates(cheap_scores, answers, np.ones(answers.shape[:2], np.bool_))
        scores = np.where(sent, full, cheap_scores)
        found[wanted] = {"escalated": float(sent.mean()), **evaluate(facts, scores)}
    return found
