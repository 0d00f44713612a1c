"""Models that were trained elsewhere: tried, put into a bundle, and served from it."""

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cli.main import app
from lab.adding import FORMATS, add_model
from lab.train import train_bundle
from lab.trial import try_model
from registry.bundle import LoadedBundle, load_manifest, verify
from streams.errors import BundleError, DataError
from streams.settings import ModelSettings
from workers.adapters import lightgbm as lightgbm_adapter
from workers.adapters import onnx as onnx_adapter
from workers.adapters import scikit_learn, xgboost
from workers.loading import ADAPTERS, load_model

FEATURES = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    directory = tmp_path_factory.mktemp("adding")
    random = np.random.default_rng(0)
    lines = ["x,y,label"]
    for _ in range(120):
        x, gap = random.normal(), random.random() < 0.1
        y = "" if gap else f"{random.normal():.3f}"
        lines.append(f"{x:.3f},{y},{int(x + random.normal() > 0)}")
    (directory / "data.csv").write_text("\n".join(lines))
    made = train_bundle(
        *(directory / "data.csv", "label", None, directory / "bundle"),
        members=["logistic_regression"],
        folds=2,
    )
    return made.bundle


def graph(*, gaps: bool = True) -> bytes:
    """x + y squeezed between 0 and 1 as ONNX; without `gaps` missing values stay missing."""
    known = "known" if gaps else "x"
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gap"]),
        helper.make_node("Where", ["gap", "zero", "x"], ["known"]),
        helper.make_node("ReduceSum", [known, "columns"], ["sum"], keepdims=0),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    constants = {"zero": np.array(0.0, np.float32), "columns": np.array([1])}
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx_adapter.save(model)


def rows_and_labels() -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(1).normal(size=(60, FEATURES))
    return rows, (rows[:, 0] > 0).astype(int)


def other(suffix: str) -> bytes:
    """A model of each other library."""
    rows, labels = rows_and_labels()
    if suffix == ".skops":
        from sklearn.ensemble import RandomForestClassifier

        return scikit_learn.save(RandomForestClassifier(3, random_state=0).fit(rows, labels))
    if suffix == ".ubj":
        from xgboost import XGBClassifier

        return xgboost.save(XGBClassifier(n_estimators=3, n_jobs=1).fit(rows, labels))
    from lightgbm import LGBMClassifier

    estimator = LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1).fit(rows, labels)
    return lightgbm_adapter.save(estimator)


def write(directory: Path, name: str, data: bytes) -> Path:
    (directory / name).write_bytes(data)
    return directory / name


def test_it_is_served_from_the_new_bundle_and_the_old_one_stays(
    bundle: LoadedBundle, tmp_path: Path
) -> None:
    file = write(tmp_path, "net.onnx", graph())
    made = add_model(bundle.directory, file, "net", tmp_path / "new")
    verify(made)
    assert made.version != bundle.version == load_manifest(bundle.directory).version
    entry = made.manifest.model("net")
    assert entry is not None
    assert (entry.format, entry.artefact.path) == ("onnx", "models/net.onnx")
    assert made.manifest.models[:-1] == bundle.manifest.models
    assert "onnxruntime" in made.manifest.libraries
    model = load_model(ModelSettings(name="net"), made)
    assert model.version == entry.version
    rows = np.array([[0.5, np.nan], [-1.0, 1.0]])
    np.testing.assert_allclose(model.predict(rows), 1 / (1 + np.exp([-0.5, 0.0])), rtol=1e-6)


def test_the_same_file_gives_the_same_bundle(bundle: LoadedBundle, tmp_path: Path) -> None:
    file = write(tmp_path, "net.onnx", graph())
    versions = {
        add_model(bundle.directory, file, "net", tmp_path / out).version for out in ("a", "b")
    }
    assert len(versions) == 1


@pytest.mark.parametrize("suffix", sorted(set(FORMATS) - {".onnx"}))
def test_every_format_of_a_file_can_be_added(
    bundle: LoadedBundle, tmp_path: Path, suffix: str
) -> None:
    file = write(tmp_path, f"m{suffix}", other(suffix))
    made = add_model(bundle.directory, file, "m", tmp_path / "new")
    load_model(ModelSettings(name="m"), made)


def test_every_format_that_is_a_file_has_an_ending() -> None:
    assert set(FORMATS.values()) == ADAPTERS.keys() - {"callable", "open-inference"}


def test_the_command_replaces_a_bundle_only_when_told(bundle: LoadedBundle, tmp_path: Path) -> None:
    file = write(tmp_path, "net.onnx", graph())
    first = add_model(bundle.directory, file, "net", tmp_path / "b")
    arguments = ["add-model", str(file), "--name", "more", "--bundle", str(tmp_path / "b")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, BundleError)
    done = CliRunner().invoke(app, [*arguments, "--replace"])
    assert done.exit_code == 0
    now = load_manifest(tmp_path / "b")
    assert [model.name for model in now.manifest.models[-2:]] == ["net", "more"]
    assert now.version != first.version
    assert f"version {now.version}, with more (onnx" in done.stdout


@pytest.mark.parametrize(
    ("name", "file", "data", "error", "problem"),
    [
        ("net", "net.pkl", b"", DataError, "expected a file that ends with .onnx, .skops"),
        ("a/b", "net.onnx", b"", DataError, "'a/b': expected a name of letters"),
        ("logistic_regression", "net.onnx", b"", BundleError, "has a model 'logistic_regression'"),
        ("net", "net.onnx", b"junk", BundleError, "net.onnx: no ONNX model that runs here"),
        ("net", "net.txt", b"tree\njunk", BundleError, "net.txt: no LightGBM model"),
        (
            "net",
            "net.onnx",
            graph(gaps=False),
            BundleError,
            r"answers golden row \d+ with nan, in which y is missing",
        ),
    ],
    ids=["ending", "name", "taken", "junk", "other junk", "no answer to gaps"],
)
def test_what_cannot_be_added_is_refused_in_words_and_writes_nothing(
    bundle: LoadedBundle, tmp_path: Path, name: str, file: str, data: bytes, error, problem: str
) -> None:
    with pytest.raises(error, match=problem):
        add_model(bundle.directory, write(tmp_path, file, data), name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there(bundle: LoadedBundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        add_model(bundle.directory, tmp_path / "no.onnx", "net", tmp_path / "new")


def test_a_file_that_kills_its_library_kills_nobody_else() -> None:
    """Child indices far outside the tree, which LightGBM follows."""
    text = other(".txt").decode()
    crafted = re.sub(r"left_child=\S+", "left_child=1000000000", text)
    crafted = re.sub(r"right_child=\S+", "right_child=1000000000", crafted)
    assert crafted != text
    with pytest.raises(BundleError, match=r"crashed on it \(SIG"):
        try_model("lightgbm", crafted.encode(), rows_and_labels()[0])


def test_a_wrong_number_of_features_fails_on_the_rows() -> None:
    with pytest.raises(BundleError, match="fails on the golden rows: InvalidArgument"):
        try_model("onnx", graph(), np.zeros((3, FEATURES + 1)))


def test_a_bundle_of_several_classes_takes_a_model_with_a_column_for_each(tmp_path: Path) -> None:
    import warnings

    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx
    random = np.random.default_rng(0)
    rows = random.normal(size=(150, FEATURES))
    classes = np.array(["a", "b", "c"])[np.digitize(rows[:, 0], [-0.5, 0.5])]
    lines = [f"{x:.4f},{y:.4f},{c}" for (x, y), c in zip(rows, classes, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["x,y,label", *lines]))
    train_bundle(
        *(tmp_path / "data.csv", "label", None, tmp_path / "old"),
        task="multiclass",
        members=["logistic_regression"],
        folds=2,
    )
    fitted = LogisticRegression().fit(rows, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(fitted, X=rows[:1], options={"zipmap": False})
    file = write(tmp_path, "net.onnx", onnx_adapter.save(model))
    made = add_model(tmp_path / "old", file, "net", tmp_path / "new")
    loaded = load_model(ModelSettings(name="net"), made)
    np.testing.assert_allclose(loaded.predict(rows), fitted.predict_proba(rows), atol=1e-6)
    wrong = write(tmp_path, "one.onnx", graph())
    with pytest.raises(BundleError, match=r"answers \d+ golden rows with shape"):
        add_model(tmp_path / "old", wrong, "one", tmp_path / "other")
