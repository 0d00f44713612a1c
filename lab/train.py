"""From a table to an ensemble bundle.

The rows are split once: the held-out part is never trained on and gives the metrics. On the rest,
each member is fitted once per fold for the out-of-fold scores that calibrate and combine, and
once on everything for the model that goes live.

Nothing here depends on the clock, the number of cores or the order in which fits finish: the same
file, seed and library versions give the same bundle, to the byte.
"""

import hashlib
import importlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.combining import fit_calibration, fit_stacking, quantiles
from lab.members import Member, members_named, one_thread
from lab.metrics import Metrics, evaluate, evaluate_strategies
from lab.progress import Progress, silent
from lab.table import Table, encode, infer_schema, labels, read_table, write_csv
from registry.bundle import LoadedBundle, artefact_of, check_free, write_bundle
from registry.manifest import DataFingerprint, Manifest, ModelEntry
from streams.errors import DataError
from streams.features import FeatureSchema
from workers.loading import adapter_for

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

GOLDEN_ROWS = 16
# Which libraries a format depends on, in whose versions a bundle is at home.
_LIBRARIES = {
    "scikit-learn": ("sklearn", "skops"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training made, not yet on disk.

    Attributes:
        manifest: the content of the bundle.
        artefacts: path in the bundle → bytes.
        holdout: int64[H], the rows of the table that were held out, ascending.
        left_out: columns that are neither label nor id, and did not become features.
    """

    manifest: Manifest
    artefacts: dict[str, bytes]
    holdout: NDArray[np.int64]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainedBundle:
    """A bundle on disk, and what there is to tell about its training.

    Attributes:
        bundle: as `registry.bundle.load_manifest` gives it.
        members: member → metric → value on the held-out part (empty without one).
        strategies: the same for the whole ensemble by strategy.
        training_rows: rows that the members learned from.
        holdout_rows: rows that were held out.
        left_out: columns that are neither label nor id, and did not become features.
    """

    bundle: LoadedBundle
    members: Metrics
    strategies: Metrics
    training_rows: int
    holdout_rows: int
    left_out: tuple[str, ...]


def train_bundle(
    data: Path,
    label: str,
    id: str | None,  # noqa: A002 - the user's own word for the column
    out: Path,
    *,
    holdout: float = 0.2,
    holdout_out: Path | None = None,
    folds: int = 5,
    seed: int = 0,
    members: Sequence[str] | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> TrainedBundle:
    """Train on a file and write the bundle; `ensemble train` is this function.

    Args:
        data: CSV (gzip too) or Parquet.
        label: the column to predict: 0 and 1, or false and true.
        id: a column that names the rows and is no feature.
        out: the bundle's directory.
        holdout: share of the rows that are kept out of training and give the metrics; may be 0.
        holdout_out: where to write the held-out rows, all their columns, as CSV (gzip too).
        folds: how many folds the out-of-fold scores are made with.
        seed: of the splits and of every member.
        members: names of `lab.members.MEMBERS`; None is all.
        replace: whether an older bundle at the same place may go.
        progress: is told how far it is.

    Raises:
        DataError: the file or its columns cannot be trained on.
        BundleError: the directory is taken or cannot be written.
    """
    check_free(out, replace=replace)
    chosen = members_named(members)
    if holdout_out is not None and not holdout:
        raise DataError("there are no held-out rows to write; expected a holdout share above 0")
    table = read_table(data)
    result = train(
        table,
        label,
        id,
        fingerprint=hashlib.sha256(data.read_bytes()).hexdigest(),
        holdout=holdout,
        folds=folds,
        seed=seed,
        members=chosen,
        progress=progress,
    )
    if holdout_out is not None:
        write_csv(table.take(result.holdout), holdout_out)
    bundle = write_bundle(out, result.manifest, result.artefacts, replace=replace)
    return TrainedBundle(
        bundle=bundle,
        members={model.name: model.metrics for model in result.manifest.models},
        strategies=result.manifest.metrics,
        training_rows=result.manifest.data.rows,
        holdout_rows=len(result.holdout),
        left_out=result.left_out,
    )


@one_thread()
def train(
    table: Table,
    label: str,
    id: str | None = None,  # noqa: A002 - the user's own word for the column
    *,
    fingerprint: str,
    holdout: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    members: Sequence[Member] | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Train an ensemble; arguments as for `train_bundle`, `fingerprint` is the data's SHA-256.

    Raises:
        DataError: the table cannot be trained on.
    """
    members = members_named(None) if members is None else members
    names = [member.name for member in members]
    reserved = {label} if id is None else {label, id}
    truth = labels(table, label)
    schema = infer_schema(table, exclude=reserved)
    matrix = encode(table, schema)
    learn, held = _split(truth, holdout, folds, seed, table.source)
    golden = _golden_rows(matrix[learn], schema, seed)
    out_of_fold, finals = _fit_all(
        members, schema, matrix[learn], truth[learn], folds=folds, seed=seed, progress=progress
    )
    answers = _score_all(finals, golden)
    held_scores = _score_all(finals, matrix[held])
    calibrations = {
        name: fit_calibration(out_of_fold[:, i], truth[learn]) for i, name in enumerate(names)
    }
    stacking = fit_stacking(names, out_of_fold, truth[learn])
    files = [adapter_for(m.format).save(f) for m, f in zip(members, finals, strict=True)]
    manifest = Manifest(
        schema=schema,
        models=tuple(
            ModelEntry(
                name=member.name,
                format=member.format,
                artefact=artefact_of(member.path, files[i]),
                golden=tuple(answers[:, i].tolist()),
                metrics=evaluate(truth[held], held_scores[:, i]),
            )
            for i, member in enumerate(members)
        ),
        calibrations=calibrations,
        stacking=stacking,
        quantiles={name: quantiles(out_of_fold[:, i]) for i, name in enumerate(names)},
        golden_rows=_rows_of(golden),
        metrics=evaluate_strategies(names, calibrations, stacking, truth[held], held_scores),
        data=DataFingerprint(fingerprint, len(learn), label, float(truth[learn].mean())),
        libraries=_versions(members),
    )
    artefacts = {member.path: file for member, file in zip(members, files, strict=True)}
    left_out = tuple(n for n in table.columns if n not in reserved and n not in schema.names)
    return TrainingResult(manifest, artefacts, held, left_out)


def _split(
    truth: Labels, holdout: float, folds: int, seed: int, source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held out, both ascending; labels in equal shares."""
    from sklearn.model_selection import train_test_split

    if not 0.0 <= holdout < 1.0 or folds < 2:
        raise DataError(f"holdout {holdout} and {folds} folds; expected 0 ≤ holdout < 1, folds ≥ 2")
    rows = np.arange(len(truth), dtype=np.int64)
    rarer = int(np.bincount(truth).min())
    rarer_learned = rarer - round(rarer * holdout)
    if rarer_learned < folds or (holdout and rarer_learned == rarer):
        raise DataError(
            f"{source}: {rarer} rows have the rarer label, too few for "
            f"{folds} folds and a holdout of {holdout:g}"
        )
    if not holdout:
        return rows, rows[:0]
    learn, held = train_test_split(rows, test_size=holdout, stratify=truth, random_state=seed)
    return np.sort(learn), np.sort(held)


def _fit_all(
    members: Sequence[Member],
    schema: FeatureSchema,
    matrix: Floats,
    truth: Labels,
    *,
    folds: int,
    seed: int,
    progress: Progress,
) -> tuple[Floats, list[Any]]:
    """float64[N, M] out-of-fold scores, and each member fitted on all rows.

    Every fit runs on one thread, as many at a time as there are cores.
    """
    from sklearn.model_selection import StratifiedKFold

    everything = np.arange(len(truth))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    splits = [(everything, everything[:0]), *splitter.split(matrix, truth)]
    out_of_fold = np.empty((len(truth), len(members)))
    finals: list[Any] = [None] * len(members)

    def fit(column: int, split: int) -> None:
        member, (learn, test) = members[column], splits[split]
        estimator = member.fit(schema, seed, matrix[learn], truth[learn])
        if len(test):
            out_of_fold[test, column] = _score(estimator, matrix[test])
        else:
            finals[column] = estimator

    jobs = [(column, split) for split in range(len(splits)) for column in range(len(members))]
    progress("models", 0, len(jobs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(fit, *job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                progress("models", done, len(jobs))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return out_of_fold, finals


def _score(estimator: Any, matrix: Floats) -> Floats:
    return np.asarray(estimator.predict_proba(matrix)[:, 1], dtype=np.float64)


def _score_all(estimators: Sequence[Any], matrix: Floats) -> Floats:
    """float64[N, M], the answers of M estimators to N rows, of which there may be none."""
    if not len(matrix):
        return np.empty((0, len(estimators)))
    return np.column_stack([_score(estimator, matrix) for estimator in estimators])


def _golden_rows(matrix: Floats, schema: FeatureSchema, seed: int) -> Floats:
    """Rows that every model is asked at loading; features that may be missing are, in some."""
    count = min(GOLDEN_ROWS, len(matrix))
    golden = matrix[np.random.default_rng(seed).choice(len(matrix), count, replace=False)]
    optional = [i for i, feature in enumerate(schema.features) if not feature.required]
    for turn, column in enumerate(optional):
        golden[turn % count, column] = np.nan
    return golden


def _rows_of(matrix: Floats) -> tuple[tuple[float | None, ...], ...]:
    rows = matrix.astype(object)
    rows[np.isnan(matrix)] = None
    return tuple(tuple(row) for row in rows.tolist())


def _versions(members: Sequence[Member]) -> dict[str, str]:
    modules = {"numpy", *(name for member in members for name in _LIBRARIES[member.format])}
    return {
        _DISTRIBUTIONS.get(name, name): str(importlib.import_module(name).__version__)
        for name in sorted(modules)
    }
