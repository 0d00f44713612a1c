"""How sure the ensemble's scores are: calibrations, conformal quantiles and a threshold.

A strategy that has learned from rows is too sure of itself on them. So its scores for each row
come from a strategy that was made without that row's fold (cross-fitting), from answers that are
out of fold themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from combiner.catalogue import catalogue
from combiner.confidence import classes_of, dispersion
from combiner.conformal import SET_METHODS, chances, label_scores, quantile_of
from combiner.recalibration import Recalibrator
from lab.calibrating import CalibrationMethod, fit_calibrator
from lab.combining import MAX_MEMBERS_FOR_ALL_SUBSETS, masks
from lab.thresholds import Criterion, best_threshold, criterion_of
from registry.certainty import Certainty, Conformal, ConformalMethod, Quantile, Threshold
from streams.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Rows to score and bool[T, M] present → float64[T, K].
Score = Callable[[Ints, Bools], Floats]
# Rows to learn from → what scores other rows.
Learn = Callable[[Ints], Score]

# Beyond the members for all subsets, so many subsets stand for all of one size.
SUBSETS_OF_A_SIZE = 20
# A tenth of the usual dispersion: where all agree, intervals do not shrink to nothing.
FLOOR_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class CertaintyOptions:
    """What is asked for, and of whose scores; None is nothing of the kind."""

    strategy: str = "stacking"
    calibration: CalibrationMethod | None = None
    conformal: ConformalMethod | None = None
    coverage: float = 0.9
    threshold: Criterion | None = None


def certainty_options(
    strategy: str,
    calibration: str | None,
    conformal: str,
    coverage: float | None,
    threshold: str | None,
    *,
    of_amounts: bool,
) -> CertaintyOptions:
    """Options from words.

    Raises:
        DataError: a word is unknown, or does not fit what is predicted.
    """
    if strategy not in catalogue():
        raise DataError(f"strategy {strategy!r}; expected one of {', '.join(sorted(catalogue()))}")
    if calibration is not None and (calibration not in get_args(CalibrationMethod) or of_amounts):
        names = ", ".join(get_args(CalibrationMethod))
        raise DataError(f"calibration {calibration!r}; expected one of {names}, and classes")
    methods = [m for m in get_args(ConformalMethod) if (m in SET_METHODS) != of_amounts]
    if conformal not in methods:
        raise DataError(f"conformal {conformal!r}; expected one of {', '.join(methods)}")
    if coverage is not None and not 0.0 < coverage < 1.0:
        raise DataError(f"coverage {coverage:g}; expected it between 0 and 1")
    return CertaintyOptions(
        strategy,
        cast("CalibrationMethod | None", calibration),
        None if coverage is None else cast("ConformalMethod", conformal),
        0.9 if coverage is None else coverage,
        None if threshold is None else criterion_of(threshold),
    )


def subsets(members: int, seed: int) -> dict[str, list[Bools]]:
    """Key → the subsets, bool[M], that stand for it: one for a mask, several for a count."""
    found = {mask: [_bits(mask)] for mask in masks(members)}
    if members > MAX_MEMBERS_FOR_ALL_SUBSETS:
        random = np.random.default_rng(seed)
        for count in range(1, members):
            order = np.argsort(random.random((SUBSETS_OF_A_SIZE, members)), axis=1)
            found[f"#{count}"] = list(order < count)
    return found


def cross_combined(
    learn: Learn, rows: int, keys: Mapping[str, list[Bools]], *, folds: int, seed: int
) -> dict[str, tuple[Floats, Bools]]:
    """Key → float64[N, K] scores, each row's made without its fold, and bool[N, M], by whom.

    Where several subsets stand for a key, each row draws one of them.
    """
    random = np.random.default_rng(seed)
    fold = random.permutation(rows) % folds
    everything = np.arange(rows)
    present = {
        key: np.stack(some)[random.integers(0, len(some), rows)] for key, some in keys.items()
    }
    parts: dict[str, list[Floats]] = {key: [] for key in keys}
    tests = [everything[fold == number] for number in range(folds)]
    for number, test in enumerate(tests):
        score = learn(everything[fold != number])
        for key in keys:
            parts[key].append(score(test, present[key][test]))
    back = np.argsort(np.concatenate(tests))
    return {key: (np.concatenate(parts[key])[back], present[key]) for key in keys}


def fit_certainty(
    members: Sequence[str],
    combined: Mapping[str, tuple[Floats, Bools]],
    answers: Floats,
    labels: Floats,
    options: CertaintyOptions,
) -> Certainty:
    """What is asked for, of cross-fitted scores.

    Args:
        members: in the order of the masks.
        combined: by key, see `cross_combined`.
        answers: float64[N, M, K], the members', as the strategy takes them.
        labels: float64[N].
        options: see there.

    Raises:
        DataError: the rows are too few for the coverage, or a threshold is asked for where there
            are not two classes.
    """
    full = "1" * len(members)
    whole = labels.astype(np.int64)
    calibrations = {}
    if options.calibration is not None:
        calibrations = {
            key: fit_calibrator(options.calibration, scores, whole)
            for key, (scores, _) in combined.items()
        }
    threshold: Threshold | None = None
    if options.threshold is not None:
        scores, present = combined[full]
        if scores.shape[1] > 1 or set(np.unique(labels).tolist()) - {0.0, 1.0}:
            raise DataError("a threshold is chosen between two classes; there are more")
        if calibrations:
            scores = Recalibrator(list(range(len(members))), calibrations).apply(scores, present)
        threshold = best_threshold(options.threshold, scores[:, 0], whole)
    return Certainty(
        strategy=options.strategy,
        members=tuple(members),
        calibrations=calibrations,
        conformal=_conformal(combined, answers, labels, options),
        threshold=threshold,
    )


def _conformal(
    combined: Mapping[str, tuple[Floats, Bools]],
    answers: Floats,
    labels: Floats,
    options: CertaintyOptions,
) -> Conformal | None:
    method = options.conformal
    if method is None:
        return None
    floor = 0.0
    if method == "normalised":
        everybody = np.ones(answers.shape[:2], dtype=np.bool_)
        floor = FLOOR_SHARE * float(np.median(dispersion(answers, everybody)))
    rows = np.arange(len(labels))
    chance = chances(0, rows)
    quantiles: dict[str, Quantile] = {}
    for key, (scores, present) in combined.items():
        if method in SET_METHODS:
            fits = label_scores(method, classes_of(scores), chance)[rows, labels.astype(np.int64)]
        else:
            fits = np.abs(labels - scores[:, 0])
            if method == "normalised":
                fits = fits / (dispersion(answers, present) + floor)
        try:
            quantiles[key] = quantile_of(fits, options.coverage)
        except ValueError as error:
            raise DataError(f"coverage {options.coverage:g}: {error}") from None
    return Conformal(method, options.coverage, quantiles, floor)


def _bits(mask: str) -> Bools:
    return np.array([digit == "1" for digit in mask])
