"""From a column to a task and its truth."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from lab.table import Table, read_table
from lab.targets import target_of
from streams.errors import DataError


def table(tmp_path: Path, kind: str, values: list[object]) -> Table:
    if kind == "parquet":
        pyarrow.parquet.write_table(pa.table({"y": values}), tmp_path / "d.parquet")
        return read_table(tmp_path / "d.parquet")
    text = "\n".join(["y,x", *(f"{'' if value is None else value},1" for value in values)])
    (tmp_path / "d.csv").write_text(text + "\n")
    return read_table(tmp_path / "d.csv")


each_kind = pytest.mark.parametrize("kind", ["csv", "parquet"])


@each_kind
def test_zeros_and_ones_are_binary(tmp_path: Path, kind: str) -> None:
    target = target_of(table(tmp_path, kind, [0, 1, 1, 0]), "y", None)
    assert (target.task, target.classes, target.columns) == ("binary", (), 1)
    assert target.truth.tolist() == [0, 1, 1, 0]
    assert target.prior() == {"positive_share": 0.5}


@each_kind
def test_text_is_classes_in_the_order_of_the_alphabet(tmp_path: Path, kind: str) -> None:
    target = target_of(table(tmp_path, kind, ["red", "blue", "green", "blue"]), "y", None)
    assert (target.task, target.classes) == ("multiclass", ("blue", "green", "red"))
    assert target.truth.tolist() == [2, 0, 1, 0]
    assert target.prior() == {"class_shares": (0.5, 0.25, 0.25)}
    assert target.take(np.array([1, 3])).truth.tolist() == [0, 0]


@each_kind
def test_numbers_may_be_classes_in_their_own_order(tmp_path: Path, kind: str) -> None:
    target = target_of(table(tmp_path, kind, [10, 9, 2, 9]), "y", "multiclass")
    assert target.classes == ("2", "9", "10")
    assert target.truth.tolist() == [2, 1, 0, 1]


@each_kind
@pytest.mark.parametrize("values", [[0.5, 2.0, 1.0], list(range(30))], ids=["fractions", "many"])
def test_fractions_and_many_numbers_are_amounts(
    tmp_path: Path, kind: str, values: list[object]
) -> None:
    target = target_of(table(tmp_path, kind, values), "y", None)
    assert (target.task, target.classes, target.columns) == ("regression", (), 1)
    assert target.truth.tolist() == values
    assert target.prior() == {"mean": pytest.approx(float(np.mean(values)))}


@each_kind
@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([1, 2, 3, 4], None, "expected `--task multiclass` or `--task regression`"),
        (["a", "b", "a"], None, "has 2 classes; expected 3 to 100"),
        ([str(i) + "x" for i in range(101)], None, "has 101 classes; expected 3 to 100"),
        (["a", "b", None, "c"], None, "is missing in 1 rows"),
        ([1.5, None, 2.5], "regression", "is missing in 1 rows"),
        (["a", "b", "c"], "regression", "does not hold numbers only"),
        ([2.5, 2.5], "regression", "is always 2.5"),
        ([1.5, float("inf")], "regression", "holds an infinite number"),
        ([0.0, 0.5, 1.0], "binary", "expected 0 and 1, or false and true"),
    ],
)
def test_what_cannot_be_predicted_is_said(
    tmp_path: Path, kind: str, values: list[object], task, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        target_of(table(tmp_path, kind, values), "y", task)
    assert message in str(caught.value)
    assert "label 'y'" in str(caught.value)
