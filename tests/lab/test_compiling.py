"""Members turned into ONNX: they answer as they did, or stay what they are."""

import builtins
from pathlib import Path

import msgspec
import numpy as np
import onnxmltools.convert
import pytest
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner
from xgboost import Booster, XGBClassifier

from cli.main import app
from lab import compiling, to_onnx
from lab.adding import add_model
from lab.compiling import compile_models, probes
from lab.speed import microseconds_a_row
from lab.train import train_bundle
from registry.bundle import LoadedBundle, load_manifest, verify
from registry.manifest import Task
from streams.errors import BundleError
from streams.settings import ModelSettings
from workers.adapters import scikit_learn
from workers.adapters import xgboost as xgboost_adapter
from workers.loading import load_models

ROWS = 300
CLASSES = ("high", "low", "middle")


def table(task: Task) -> str:
    """Numbers, some of them missing, a category and a yes or no."""
    chance = np.random.default_rng(5)
    lines = ["a,b,kind,sure,label"]
    for _ in range(ROWS):
        a, b = chance.normal(size=2)
        kind, sure = chance.choice(["card", "cash", "wire"]), bool(chance.random() < 0.5)
        amount = 100 * a + 50 * (kind == "wire") + 10 * sure + chance.normal()
        label = {
            "binary": str(int(amount > 0)),
            "multiclass": CLASSES[int(np.digitize(amount, [-50, 50]))],
            "regression": f"{amount:.3f}",
        }[task]
        gap = chance.random() < 0.2
        lines.append(f"{a:.4f},{'' if gap else f'{b:.4f}'},{kind},{str(sure).lower()},{label}")
    return "\n".join(lines) + "\n"


def trained(folder: Path, task: Task) -> LoadedBundle:
    (folder / "data.csv").write_text(table(task))
    return train_bundle(folder / "data.csv", "label", None, folder / "bundle", folds=2).bundle


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def bundle(request, tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return trained(tmp_path_factory.mktemp(request.param), request.param)


def answers_of(bundle: LoadedBundle, rows: np.ndarray) -> dict[str, np.ndarray]:
    limits = {"minimum": None, "maximum": None}
    settings = [ModelSettings(name=m.name, **limits) for m in bundle.manifest.models]
    return {model.name: model.predict(rows) for model in load_models(settings, bundle)}


def test_every_member_answers_as_it_did(bundle: LoadedBundle, tmp_path: Path) -> None:
    made, done = compile_models(bundle.directory, tmp_path / "compiled")
    verify(made)
    assert [each.name for each in done] == [model.name for model in bundle.manifest.models]
    stays = {each.name for each in done if each.difference is None}
    # Its target is scaled, for which skl2onnx has no converter.
    assert stays == ({"neural_network"} if bundle.manifest.task == "regression" else set())
    formats = {model.name: model.format for model in made.manifest.models}
    assert {name for name, format_ in formats.items() if format_ != "onnx"} == stays
    assert made.version != bundle.version == load_manifest(bundle.directory).version
    # Rows that nobody compared before, with values of seven digits as float32 holds them.
    chance = np.random.default_rng(99)
    rows = np.column_stack(
        [
            *chance.normal(size=(2, 500)).astype(np.float32).astype(np.float64),
            chance.integers(0, 3, 500),
            chance.integers(0, 2, 500),
        ]
    )
    rows[chance.random(500) < 0.2, 1] = np.nan
    before, after = answers_of(bundle, rows), answers_of(made, rows)
    for name, answers in before.items():
        limit = 1e-5 * max(1.0, np.abs(answers).max())
        np.testing.assert_allclose(after[name], answers, rtol=0, atol=limit, err_msg=name)


def test_the_same_bundle_gives_the_same_bytes(bundle: LoadedBundle, tmp_path: Path) -> None:
    versions = {compile_models(bundle.directory, tmp_path / out)[0].version for out in ("a", "b")}
    assert len(versions) == 1


def test_what_combines_the_members_stays(bundle: LoadedBundle, tmp_path: Path) -> None:
    made, _ = compile_models(bundle.directory, tmp_path / "compiled")
    before, after = (msgspec.structs.asdict(each.manifest) for each in (bundle, made))
    changed = {name for name, value in before.items() if after[name] != value}
    assert changed == {"models", "libraries"}
    assert made.manifest.libraries.items() > bundle.manifest.libraries.items()


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    return trained(tmp_path_factory.mktemp("one"), "binary")


def test_only_what_is_named_is_compiled(binary: LoadedBundle, tmp_path: Path) -> None:
    made, [done] = compile_models(binary.directory, tmp_path / "compiled", ["random_forest"])
    assert (done.name, done.format) == ("random_forest", "scikit-learn")
    assert done.difference is not None
    others = [model for model in made.manifest.models if model.name != "random_forest"]
    assert others == [m for m in binary.manifest.models if m.name != "random_forest"]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """XGBoost's converter forgets the last tree."""
    convert = onnxmltools.convert.convert_xgboost

    def convert_less(booster: Booster, *rest: object, **options: object):
        return convert(booster[: booster.num_boosted_rounds() - 1], *rest, **options)

    monkeypatch.setattr(onnxmltools.convert, "convert_xgboost", convert_less)


@pytest.mark.usefixtures("forgetful")
def test_a_model_that_would_answer_otherwise_stays(binary: LoadedBundle, tmp_path: Path) -> None:
    made, done = compile_models(binary.directory, tmp_path / "compiled")
    [kept] = [each for each in done if each.difference is None]
    assert kept.name == "xgboost"
    assert "rows otherwise, by up to 0.0" in kept.problem
    assert made.manifest.model("xgboost") == binary.manifest.model("xgboost")
    with pytest.raises(BundleError, match=r"no model can be compiled: xgboost: answers \d+ of"):
        compile_models(binary.directory, tmp_path / "none", ["xgboost"])
    assert not (tmp_path / "none").exists()
    _, [loose] = compile_models(binary.directory, tmp_path / "loose", ["xgboost"], tolerance=0.5)
    assert loose.difference is not None
    assert loose.difference > 1e-5


def test_a_model_that_stopped_early_is_compiled_up_to_its_best_round(
    binary: LoadedBundle, tmp_path: Path
) -> None:
    chance = np.random.default_rng(7)
    rows = chance.normal(size=(200, 4))
    labels = (rows[:, 0] + chance.normal(size=200) > 0).astype(int)
    estimator = XGBClassifier(n_estimators=60, n_jobs=1, early_stopping_rounds=3)
    estimator.fit(rows[:100], labels[:100], eval_set=[(rows[100:], labels[100:])], verbose=False)
    assert estimator.best_iteration < estimator.get_booster().num_boosted_rounds() - 1
    (tmp_path / "early.ubj").write_bytes(xgboost_adapter.save(estimator))
    add_model(binary.directory, tmp_path / "early.ubj", "early", tmp_path / "with")
    made, [done] = compile_models(tmp_path / "with", tmp_path / "compiled", ["early"])
    assert done.problem == ""
    answers = answers_of(made, rows)["early"]
    np.testing.assert_allclose(answers, estimator.predict_proba(rows)[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeClassifier(max_depth=4, random_state=0),
        ExtraTreesClassifier(10, max_depth=4, random_state=0),
        Pipeline([("scale", StandardScaler()), ("tree", RandomForestClassifier(5))]),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_trees_of_every_kind_lead_missing_values_as_they_did(
    binary: LoadedBundle, tmp_path: Path, estimator: ClassifierMixin
) -> None:
    chance = np.random.default_rng(8)
    rows = chance.normal(size=(300, 4)).astype(np.float32).astype(np.float64)
    labels = (rows[:, 0] > 0.2).astype(int)
    # Where the first feature is missing, mostly the label is 1.
    rows[chance.random(300) < np.where(labels, 0.3, 0.02), 0] = np.nan
    (tmp_path / "trees.skops").write_bytes(scikit_learn.save(estimator.fit(rows, labels)))
    add_model(binary.directory, tmp_path / "trees.skops", "trees", tmp_path / "with")
    made, [done] = compile_models(tmp_path / "with", tmp_path / "compiled", ["trees"])
    assert done.problem == ""
    expected = estimator.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(answers_of(made, rows)["trees"], expected, atol=1e-5)


def test_what_is_asked_of_it_must_be_there(
    binary: LoadedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="no model 'forest'; expected logistic_regression, "):
        compile_models(binary.directory, tmp_path / "new", ["forest"])
    with pytest.raises(BundleError, match="a bundle exists already"):
        compile_models(binary.directory, binary.directory)
    made, _ = compile_models(binary.directory, tmp_path / "once")
    with pytest.raises(BundleError, match="no model can be compiled: logistic_regression: is onnx"):
        compile_models(made.directory, tmp_path / "twice")
    without = msgspec.structs.replace(
        binary.manifest,
        golden_rows=(),
        models=tuple(msgspec.structs.replace(m, golden=()) for m in binary.manifest.models),
    )
    with pytest.raises(BundleError, match="no golden rows to compare"):
        probes(without)
    _hide("skl2onnx", monkeypatch)
    with pytest.raises(BundleError, match="the library 'skl2onnx'; install it with the extra"):
        compile_models(binary.directory, tmp_path / "new")


def _hide(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = to_onnx.importlib.import_module

    def missing(name: str, *rest: str):
        if name == library:
            raise builtins.ImportError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(to_onnx.importlib, "import_module", missing)


def test_probes_are_rows_that_could_come(binary: LoadedBundle) -> None:
    manifest = binary.manifest
    rows = probes(manifest)
    assert rows.shape == (len(manifest.golden_rows) + compiling.PROBES, 4)
    golden = np.array(manifest.golden_rows, dtype=np.float64)
    np.testing.assert_array_equal(rows[: len(golden)], golden)
    kinds = dict(zip(manifest.schema.names, rows.T, strict=True))
    assert set(kinds["kind"][~np.isnan(kinds["kind"])]) == {0.0, 1.0, 2.0}
    assert set(kinds["sure"][~np.isnan(kinds["sure"])]) == {0.0, 1.0}
    assert np.isnan(kinds["b"]).any()
    assert len(np.unique(kinds["a"])) > compiling.PROBES / 2


def test_the_command_says_what_became_of_each(binary: LoadedBundle, tmp_path: Path) -> None:
    arguments = ["compile-models", "--bundle", str(binary.directory), "--out"]
    run = CliRunner().invoke(app, [*arguments, str(tmp_path / "new"), "--models", "xgboost"])
    assert run.exit_code == 0, run.output
    assert "xgboost" in run.output
    assert "answers within" in run.output
    assert load_manifest(tmp_path / "new").version in run.output
    run = CliRunner().invoke(app, [*arguments, str(tmp_path / "all"), "--json"])
    said = msgspec.json.decode(run.output)
    assert [model["name"] for model in said["models"]] == [m.name for m in binary.manifest.models]
    for model in said["models"]:
        assert len(model["rows"]) == len(model["before_us"]) == len(model["after_us"]) == 3
        assert min(model["before_us"] + model["after_us"]) > 0


@pytest.mark.usefixtures("forgetful")
def test_answers_are_compared_on_rows_of_ones_own_too(binary: LoadedBundle, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(table("binary"))
    arguments = ["compile-models", "--bundle", str(binary.directory), "--models", "xgboost"]
    arguments += ["--out", str(tmp_path / "own"), "--data", str(tmp_path / "own.csv")]
    run = CliRunner().invoke(app, arguments)
    assert isinstance(run.exception, BundleError)
    assert f"of {len(probes(binary.manifest)) + ROWS} rows otherwise" in str(run.exception)


def test_the_time_of_a_row_is_told_for_each_size(binary: LoadedBundle) -> None:
    found = microseconds_a_row(binary, "logistic_regression", probes(binary.manifest), (1, 100))
    assert len(found) == 2
    assert min(found) > 0
