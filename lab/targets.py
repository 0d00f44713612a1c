"""What is to be predicted: the column of a table that becomes a task and its truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lab.table import Table, labels, typed
from registry.manifest import Task
from streams.errors import DataError
from streams.events import category_text

Truth = NDArray[np.int64] | NDArray[np.float64]

# A probability for each class stands in every answer: with more of them, rows are mostly zeros.
MAX_CLASSES = 100
# Integers with no more distinct values than this could be classes as well as amounts.
MAX_AMBIGUOUS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What is predicted.

    Attributes:
        task: which task.
        classes: for multi-class, their names in order; else empty.
        truth: int64[N], 0 and 1 or places in `classes`; float64[N] for regression.
    """

    task: Task
    classes: tuple[str, ...]
    truth: Truth

    @property
    def columns(self) -> int:
        """How many numbers an answer has."""
        return len(self.classes) or 1

    def prior(self) -> dict[str, Any]:
        """What is known of an event before any model is asked, as the manifest has it."""
        if self.task == "multiclass":
            counts = np.bincount(self.truth.astype(np.int64), minlength=len(self.classes))
            return {"class_shares": tuple((counts / len(self.truth)).tolist())}
        key = "positive_share" if self.task == "binary" else "mean"
        return {key: float(self.truth.mean())}

    def take(self, rows: NDArray[np.int64]) -> "Target":
        """Some of the rows."""
        return Target(self.task, self.classes, self.truth[rows])


def target_of(table: Table, name: str, task: Task | None) -> Target:
    """The column as a target; without a `task` the values say which one.

    0 and 1, or false and true, are binary; text is multi-class; numbers with fractions, or of many
    values, are regression.

    Raises:
        DataError: the column is absent, has gaps, does not fit the task, or says too little.
    """
    values = typed(table, name)
    task = task or _guessed(table, name, values)
    if task == "binary":
        return Target(task, (), labels(table, name))
    if values.null_count:
        raise DataError(f"{table.source}: label {name!r} is missing in {values.null_count} rows")
    if task == "regression":
        return Target(task, (), _amounts(table, name, values))
    return _classes(table, name, values)


def _guessed(table: Table, name: str, values: Any) -> Task:
    distinct = {category_text(value) for value in values.drop_null().unique().to_pylist()}
    if distinct <= {"0", "1"} or distinct <= {"false", "true"}:
        return "binary"
    if pa.types.is_string(values.type):
        return "multiclass"
    whole = pa.types.is_integer(values.type) or all("." not in text for text in distinct)
    if whole and len(distinct) <= MAX_AMBIGUOUS:
        raise DataError(
            f"{table.source}: label {name!r} holds {len(distinct)} whole numbers, which may be "
            "classes or amounts; expected `--task multiclass` or `--task regression`"
        )
    return "regression"


def _amounts(table: Table, name: str, values: Any) -> NDArray[np.float64]:
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise DataError(f"{table.source}: label {name!r} does not hold numbers only")
    truth: NDArray[np.float64] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if not np.isfinite(truth).all():
        raise DataError(f"{table.source}: label {name!r} holds an infinite number")
    if truth.min() == truth.max():
        raise DataError(f"{table.source}: label {name!r} is always {truth[0]:g}")
    return truth.astype(np.float64)


def _classes(table: Table, name: str, values: Any) -> Target:
    distinct = pc.unique(values).to_pylist()
    # Numbers in their own order, text in the alphabet's.
    words = [category_text(value) for value in sorted(distinct)]
    if not 3 <= len(words) <= MAX_CLASSES:
        raise DataError(
            f"{table.source}: label {name!r} has {len(words)} classes; expected 3 to "
            f"{MAX_CLASSES} (two are binary: 0 and 1, or false and true)"
        )
    places = {value: place for place, value in enumerate(sorted(distinct))}
    truth = np.array([places[value] for value in values.to_pylist()], dtype=np.int64)
    return Target("multiclass", tuple(words), truth)
