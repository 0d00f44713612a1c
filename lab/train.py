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

import msgspec
import numpy as np
from numpy.typing import NDArray

from lab.certainty import CertaintyOptions
from lab.learning import Learned, certainty_of, competence_of, learned_parts
from lab.members import Member, members_named, one_thread
from lab.metrics import Metrics, evaluate_answers, evaluate_strategies
from lab.progress import Progress, silent
from lab.table import Table, encode, infer_schema, read_table, write_csv
from lab.targets import Target, target_of
from registry.bundle import LoadedBundle, artefact_of, check_free, write_bundle
from registry.certainty import CERTAINTY_NAME
from registry.competence import COMPETENCE_NAME
from registry.manifest import DataFingerprint, Manifest, ModelEntry, Task, golden_of
from streams.errors import DataError
from streams.features import FeatureSchema
from workers.loading import adapter_for

Floats = NDArray[np.float64]

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
        learned: the rows that were not held out, with the members' answers to them.
    """

    manifest: Manifest
    artefacts: dict[str, bytes]
    holdout: NDArray[np.int64]
    left_out: tuple[str, ...]
    learned: Learned


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
    task: Task | None = None,
    holdout: float = 0.2,
    holdout_out: Path | None = None,
    folds: int = 5,
    seed: int = 0,
    members: Sequence[str] | None = None,
    certainty: CertaintyOptions | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> TrainedBundle:
    """Train on a file and write the bundle; `ensemble train` is this function.

    Args:
        data: CSV (gzip too) or Parquet.
        label: the column to predict.
        id: a column that names the rows and is no feature.
        out: the bundle's directory.
        task: what kind of column `label` is; None tells it by its values.
        holdout: share of the rows that are kept out of training and give the metrics; may be 0.
        holdout_out: where to write the held-out rows, all their columns, as CSV (gzip too).
        folds: how many folds the out-of-fold scores are made with.
        seed: of the splits and of every member.
        members: names of `lab.members.MEMBERS` or `lab.regressors.REGRESSORS`; None is all.
        certainty: what to learn about the ensemble's own scores; None is nothing.
        replace: whether an older bundle at the same place may go.
        progress: is told how far it is.

    Raises:
        DataError: the file or its columns cannot be trained on.
        BundleError: the directory is taken or cannot be written.
    """
    check_free(out, replace=replace)
    if holdout_out is not None and not holdout:
        raise DataError("there are no held-out rows to write; expected a holdout share above 0")
    table = read_table(data)
    result = train(
        table, label, id,
        task=task,
        fingerprint=hashlib.sha256(data.read_bytes()).hexdigest(),
        holdout=holdout, folds=folds, seed=seed,
        members=members,
        certainty=certainty,
        progress=progress,
    )  # fmt: skip
    manifest = result.manifest
    if holdout_out is not None:
        write_csv(table.take(result.holdout), holdout_out)
    bundle = write_bundle(out, manifest, result.artefacts, replace=replace)
    counts = (manifest.data.rows, len(result.holdout), result.left_out)
    own = {m.name: m.metrics for m in manifest.models}
    return TrainedBundle(bundle, own, manifest.metrics, *counts)


@one_thread()
def train(
    table: Table,
    label: str,
    id: str | None = None,  # noqa: A002 - the user's own word for the column
    *,
    task: Task | None = None,
    fingerprint: str,
    holdout: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    members: Sequence[str] | None = None,
    certainty: CertaintyOptions | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Train an ensemble; arguments as for `train_bundle`, `fingerprint` is the data's SHA-256.

    Raises:
        DataError: the table cannot be trained on.
    """
    reserved = {label} if id is None else {label, id}
    target = target_of(table, label, task)
    chosen = members_named(members, target.task)
    names = [member.name for member in chosen]
    schema = infer_schema(table, exclude=reserved)
    matrix = encode(table, schema)
    learn, held = _split(target, holdout, folds, seed, table.source)
    taught, tested = target.take(learn), target.take(held)
    golden = _golden_rows(matrix[learn], schema, seed)
    out_of_fold, finals = _fit_all(
        chosen, schema, matrix[learn], taught, folds=folds, seed=seed, progress=progress
    )
    answers = _score_all(finals, golden, target)
    held_answers = _score_all(finals, matrix[held], target)
    learned = Learned(tuple(names), schema, matrix[learn], out_of_fold, taught)
    parts = learned_parts(learned)
    competence = competence_of(learned, parts["calibrations"], seed).encode()
    files = [adapter_for(m.format).save(f) for m, f in zip(chosen, finals, strict=True)]
    manifest = Manifest(
        schema=schema,
        models=_entries(chosen, files, answers, tested, held_answers),
        golden_rows=_rows_of(golden),
        metrics={},
        data=DataFingerprint(fingerprint, len(learn), label, **taught.prior()),
        libraries=_versions(chosen),
        task=target.task,
        classes=target.classes,
        competence=artefact_of(COMPETENCE_NAME, competence),
        **parts,
    )
    metrics = evaluate_strategies(manifest, tested.truth, held_answers, matrix[held])
    manifest = msgspec.structs.replace(manifest, metrics=metrics)
    artefacts = {member.path: file for member, file in zip(chosen, files, strict=True)}
    artefacts[COMPETENCE_NAME] = competence
    if certainty is not None:
        (sure,) = certainty_of(manifest, learned, [certainty], seed=seed)
        artefacts[CERTAINTY_NAME] = sure.encode()
        listed = artefact_of(CERTAINTY_NAME, artefacts[CERTAINTY_NAME])
        manifest = msgspec.structs.replace(manifest, certainty=listed)
    left_out = tuple(n for n in table.columns if n not in reserved and n not in schema.names)
    return TrainingResult(manifest, artefacts, held, left_out, learned)


def _entries(
    members: Sequence[Member],
    files: Sequence[bytes],
    golden: Floats,
    tested: Target,
    held: Floats,
) -> tuple[ModelEntry, ...]:
    """What the manifest says of each member, with its answers to golden and held-out rows."""
    return tuple(
        ModelEntry(
            name=member.name,
            format=member.format,
            artefact=artefact_of(member.path, files[i]),
            golden=golden_of(golden[:, i]),
            metrics=evaluate_answers(tested.task, tested.truth, held[:, i]),
        )
        for i, member in enumerate(members)
    )


def _split(
    target: Target, holdout: float, folds: int, seed: int, source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held out, both ascending; classes in equal shares."""
    from sklearn.model_selection import train_test_split

    if not 0.0 <= holdout < 1.0 or folds < 2:
        raise DataError(f"holdout {holdout} and {folds} folds; expected 0 ≤ holdout < 1, folds ≥ 2")
    rows = np.arange(len(target.truth), dtype=np.int64)
    classes = None if target.task == "regression" else target.truth.astype(np.int64)
    rarer = len(rows) if classes is None else int(np.bincount(classes).min())
    rarer_learned = rarer - round(rarer * holdout)
    if rarer_learned < folds or (holdout and rarer_learned == rarer):
        what = "rows" if classes is None else "rows have the rarer label,"
        raise DataError(
            f"{source}: {rarer} {what} too few for {folds} folds and a holdout of {holdout:g}"
        )
    if not holdout:
        return rows, rows[:0]
    learn, held = train_test_split(rows, test_size=holdout, stratify=classes, random_state=seed)
    return np.sort(learn), np.sort(held)


def _fit_all(
    members: Sequence[Member],
    schema: FeatureSchema,
    matrix: Floats,
    target: Target,
    *,
    folds: int,
    seed: int,
    progress: Progress,
) -> tuple[Floats, list[Any]]:
    """float64[N, M, K] out-of-fold answers, and each member fitted on all rows.

    Every fit runs on one thread, as many at a time as there are cores.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    truth = target.truth
    everything = np.arange(len(truth))
    kind = KFold if target.task == "regression" else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    splits = [(everything, everything[:0]), *splitter.split(matrix, truth)]
    out_of_fold = np.empty((len(truth), len(members), target.columns))
    finals: list[Any] = [None] * len(members)

    def fit(column: int, split: int) -> None:
        member, (learn, test) = members[column], splits[split]
        estimator = member.fit(schema, seed, matrix[learn], truth[learn])
        if len(test):
            out_of_fold[test, column] = _score(estimator, matrix[test], target)
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


def _score(estimator: Any, matrix: Floats, target: Target) -> Floats:
    """float64[N, K]."""
    if target.task == "regression":
        answers = estimator.predict(matrix)[:, None]
    else:
        answers = estimator.predict_proba(matrix)[:, 1 if target.task == "binary" else 0 :]
    return np.asarray(answers, dtype=np.float64)


def _score_all(estimators: Sequence[Any], matrix: Floats, target: Target) -> Floats:
    """float64[N, M, K], the answers of M estimators to N rows, of which there may be none."""
    if not len(matrix):
        return np.empty((0, len(estimators), target.columns))
    return np.stack([_score(estimator, matrix, target) for estimator in estimators], axis=1)


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
