"""Ensembles for several classes and for amounts, trained on scikit-learn's own data."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.metrics import log_loss, mean_squared_error, r2_score, roc_auc_score

from combiner.catalogue import catalogue
from lab.metrics import evaluate_answers
from lab.table import encode, read_table
from lab.targets import target_of
from lab.train import TrainedBundle, train_bundle
from registry.bundle import load_manifest, verify
from registry.manifest import Task
from streams.errors import DataError
from streams.settings import ModelSettings
from workers.loading import load_models


def write(path: Path, found, names: list[str] | None) -> Path:
    labels = [names[place] for place in found.target] if names else found.target.tolist()
    rows = zip(*found.data.T.tolist(), labels, strict=True)
    header = [name.replace("/", " ") for name in found.feature_names]
    lines = [",".join([*header, "y"]), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module", params=["multiclass", "regression"])
def trained(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, TrainedBundle]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "multiclass":
        file = write(folder / "wine.csv", load_wine(), ["barolo", "grignolino", "barbera"])
    else:
        file = write(folder / "diabetes.csv", load_diabetes(), None)
    bundle = train_bundle(file, "y", None, folder / "bundle", holdout_out=folder / "held.csv")
    return request.param, bundle


def test_the_bundle_says_what_it_predicts(trained: tuple[Task, TrainedBundle]) -> None:
    task, found = trained
    verify(found.bundle)
    manifest = load_manifest(found.bundle.directory).manifest
    assert manifest.task == task
    if task == "multiclass":
        assert manifest.classes == ("barbera", "barolo", "grignolino")
        assert sum(manifest.prior) == pytest.approx(1.0)
        assert manifest.data.positive_share is None
    else:
        assert manifest.classes == ()
        assert manifest.prior == (pytest.approx(152.1, abs=10),)
    members = {model.name for model in manifest.models}
    assert len(members) == 5
    assert set(manifest.quantiles) == set(manifest.blending) == set(manifest.quality) == members
    assert len(manifest.stacking.fits) == 31
    assert manifest.calibrations == {}


def test_models_answer_as_at_training_and_well(trained: tuple[Task, TrainedBundle]) -> None:
    task, found = trained
    manifest = found.bundle.manifest
    held = read_table(found.bundle.directory.parent / "held.csv")
    matrix, target = encode(held, manifest.schema), target_of(held, "y", task)
    settings = [ModelSettings(name=m.name, minimum=None, maximum=None) for m in manifest.models]
    for model in load_models(settings, found.bundle):
        answers = model.predict(matrix).reshape(held.rows, manifest.columns)
        metrics = evaluate_answers(task, target.truth, answers)
        assert found.members[model.name] == pytest.approx(metrics, rel=1e-6, abs=1e-6)
    fitting = {name for name, cls in catalogue().items() if task in cls.tasks}
    assert set(found.strategies) == fitting
    best = "accuracy" if task == "multiclass" else "r2"
    # Some forty held-out wines, and ninety patients, of whom little can be told.
    floor = 0.85 if task == "multiclass" else 0.3
    assert found.strategies["stacking"][best] > floor
    assert found.strategies["weighted_mean"][best] > floor


def test_the_same_data_and_seed_give_the_same_bundle(
    trained: tuple[Task, TrainedBundle], tmp_path: Path
) -> None:
    _, found = trained
    [file] = [p for p in found.bundle.directory.parent.glob("*.csv") if p.stem != "held"]
    again = train_bundle(file, "y", None, tmp_path / "again")
    assert again.bundle.version == found.bundle.version


def test_members_of_another_task_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "d.csv", load_diabetes(), None)
    with pytest.raises(DataError, match="expected some of linear_regression, random_forest"):
        train_bundle(file, "y", None, tmp_path / "b", members=["logistic_regression"])


def test_metrics_of_several_classes_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    truth, answers = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), 200)
    found = evaluate_answers("multiclass", truth, answers)
    assert found["auc"] == pytest.approx(roc_auc_score(truth, answers, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(log_loss(truth, answers))
    assert found["accuracy"] == pytest.approx((answers.argmax(axis=1) == truth).mean())
    perfect = evaluate_answers("multiclass", truth, np.eye(3)[truth])
    assert (perfect["brier"], perfect["ece"], perfect["auc"]) == (0.0, 0.0, 1.0)
    # A class that no row has leaves the others.
    assert np.isfinite(evaluate_answers("multiclass", truth % 2, answers)["auc"])


def test_metrics_of_amounts_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=50)
    answers = truth + rng.normal(size=50)
    found = evaluate_answers("regression", truth, answers[:, None])
    assert found["rmse"] ** 2 == pytest.approx(mean_squared_error(truth, answers))
    assert found["r2"] == pytest.approx(r2_score(truth, answers))
    assert evaluate_answers("regression", truth[:0], answers[:0, None]) == {}
