"""The whole evaluation on made-up rows, and its page against the folds it tells about."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from cli.main import app
from combiner.selections import Segmentation
from lab.evaluation import (
    ESCALATED,
    Evaluation,
    EvaluationOptions,
    FoldResult,
    evaluate_data,
)
from lab.plots import draw
from lab.report import BASELINE, coverages, difference, markdown, verdict, whole
from streams.errors import DataError

ROWS = 700
OPTIONS = EvaluationOptions(
    repeats=1,
    folds=2,
    inner_folds=2,
    members=("logistic_regression", "lightgbm"),
    cheap=("logistic_regression",),
    segments=Segmentation("feature:x", edges=(0.0,)),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(2, ROWS))
    colour = random.choice(["red", "green"], ROWS)
    truth = x + np.abs(y) + (colour == "red") + random.normal(size=ROWS) > 1.2
    path = tmp_path_factory.mktemp("evaluation") / "rows.parquet"
    columns = {"id": np.arange(ROWS), "x": x, "y": y, "colour": colour, "label": truth}
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def found(data: Path) -> Evaluation:
    return evaluate_data(data, "label", "id", OPTIONS)


def test_every_way_is_measured_with_all_members_and_with_some(found: Evaluation) -> None:
    assert len(found.folds) == 2
    for fold in found.folds:
        kinds = {kind: sum(k == kind for k in fold.kinds.values()) for kind in fold.kinds.values()}
        assert kinds == {
            "member": 2, "strategy": 16, "selection": 6, "calibration": 6, "pruning": 1,
        }  # fmt: skip
        assert fold.whole.keys() == fold.kinds.keys()
        alone = {name for name, kind in fold.kinds.items() if kind == "member"}
        assert fold.dropped.keys() == fold.kinds.keys() - alone
        assert sum(len(each.labels) for each in found.folds) == ROWS


def test_the_best_single_member_is_one_of_the_members(found: Evaluation) -> None:
    for fold in found.folds:
        members = [fold.whole[name] for name, kind in fold.kinds.items() if kind == "member"]
        assert fold.whole[BASELINE] in members


def test_a_cascade_ends_at_its_cheap_and_at_its_full_ensemble(found: Evaluation) -> None:
    for fold in found.folds:
        assert list(fold.cascade) == list(ESCALATED)
        assert fold.cascade[0.0]["escalated"] == 0.0
        assert fold.cascade[1.0]["escalated"] == 1.0
        assert fold.cascade[1.0]["auc"] == fold.whole["stacking"]["auc"]
        shares = [each["escalated"] for each in fold.cascade.values()]
        assert shares == sorted(shares)


def test_sets_are_measured_for_each_number_of_missing_members(found: Evaluation) -> None:
    assert {(method, missing) for method, missing, *_ in coverages(found)} == {
        (method, missing) for method in ("lac", "aps") for missing in (0, 1)
    }


def test_the_same_seed_gives_the_same_page(found: Evaluation, data: Path) -> None:
    assert markdown(evaluate_data(data, "label", "id", OPTIONS)) == markdown(found)


def made_up(differences: list[float]) -> Evaluation:
    """Folds in which one way differs from the best single one by so much AUC."""
    single = {"auc": 0.7, "log_loss": 0.5, "brier": 0.2, "ece": 0.05}
    folds = tuple(
        FoldResult(
            {BASELINE: single, "mean": {**single, "auc": 0.7 + more}},
            {BASELINE: single},
            {BASELINE: "strategy", "mean": "strategy"},
            {},
            {},
            {},
            np.zeros(0, dtype=np.int64),
        )
        for more in differences
    )
    options = EvaluationOptions(repeats=1, folds=len(differences))
    return Evaluation("rows.csv", 100, 0.5, options, ("a", "b"), folds)


@pytest.mark.parametrize(
    ("differences", "expected", "cell"),
    [
        ([0.02, 0.021, 0.019, 0.02], "better", r"\*\*0\.7200 \(\+0\.0200 ± 0\.00"),
        ([-0.02, -0.021, -0.019, -0.02], "worse", r"_0\.6800 \(\u22120\.0200 ± 0\.00"),
        ([0.02, -0.02, 0.01, -0.01], "", r"\| 0\.7000 \([+\u2212]0\.0000 ± 0\.0"),
    ],
)
def test_only_what_the_interval_leaves_out_is_better_or_worse(
    differences: list[float], expected: str, cell: str
) -> None:
    evaluation = made_up(differences)
    assert verdict(difference(evaluation, whole, "mean", "auc"), "auc") == expected
    assert re.search(cell, markdown(evaluation))


def test_less_log_loss_is_better(found: Evaluation) -> None:
    interval = difference(made_up([-0.02, -0.021, -0.019, -0.02]), whole, "mean", "auc")
    assert verdict(interval, "log_loss") == "better"


def test_drawings_are_the_same_each_time(found: Evaluation, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = draw(found, tmp_path / "one"), draw(found, tmp_path / "two")
    assert [path.name for path in one] == [path.name for path in two]
    assert len(one) == 4
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert first.read_text().startswith("<?xml")


def test_cheap_members_are_some_and_not_all(data: Path) -> None:
    with pytest.raises(DataError, match="expected some, not all, of"):
        evaluate_data(data, "label", "id", EvaluationOptions(cheap=("abacus",)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--segments", "x=a"], "segments 'x=a'; expected FEATURE=EDGE,EDGE"),
        (["--members", "abacus"], "abacus"),
    ],
)
def test_the_command_says_what_it_expected(data: Path, tmp_path, arguments, message) -> None:
    command = ["evaluate", str(data), "--label", "label", "--out", str(tmp_path / "o"), *arguments]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, DataError)
    assert message in str(result.exception)
