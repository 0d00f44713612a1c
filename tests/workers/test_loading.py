"""Models from settings: found, unchanged, answering as trained, or refused by name."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lab.train import train_bundle
from registry.bundle import LoadedBundle, load_manifest
from registry.manifest import MANIFEST_NAME
from streams.errors import BundleError, ConfigurationError
from streams.settings import ModelSettings
from workers.lean import without
from workers.loading import ADAPTERS, adapter_for, load_model, load_models, warm

ROOT = Path(__file__).parent.parent.parent
MEMBERS = ["logistic_regression", "random_forest", "xgboost", "lightgbm"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loading")
    random = np.random.default_rng(0)
    lines = ["id,x,y,colour,label"]
    for row in range(200):
        x, colour = random.normal(), random.choice(["red", "blue", ""])
        lines.append(f"{row},{x:.3f},{random.normal():.3f},{colour},{int(x + random.normal() > 0)}")
    (directory / "data.csv").write_text("\n".join(lines))
    train_bundle(directory / "data.csv", "label", "id", directory / "bundle", members=MEMBERS)
    return directory / "bundle"


@pytest.fixture
def bundle(trained: Path, tmp_path: Path) -> LoadedBundle:
    """A copy that a test may spoil."""
    for path in trained.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(trained)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return load_manifest(tmp_path)


def settings(name: str, **changes: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": name, **changes})


def double(matrix: np.ndarray) -> np.ndarray:
    return matrix[:, 0] * 2


def test_models_come_in_the_order_of_the_settings(bundle: LoadedBundle) -> None:
    wanted = [
        settings("xgboost", minimum=0.1, maximum=math.inf),
        settings("mine", callable=f"{__name__}:double", version="7"),
        settings("theirs", external=True),
        settings("random_forest"),
    ]
    models = load_models(wanted, bundle)
    assert [model.name for model in models] == ["xgboost", "mine", "random_forest"]
    assert (models[0].minimum, models[0].maximum) == (0.1, math.inf)
    entry = bundle.manifest.model("xgboost")
    assert entry is not None
    assert models[0].version == entry.version
    assert models[1].version == "7"
    np.testing.assert_array_equal(models[1].predict(np.array([[3.0, 4.0]])), [6.0])


def test_every_trained_model_loads_and_answers_the_golden_rows(bundle: LoadedBundle) -> None:
    rows = np.array(bundle.manifest.golden_rows, dtype=np.float64)
    assert np.isnan(rows).any()
    for entry in bundle.manifest.models:
        model = load_model(settings(entry.name), bundle)
        np.testing.assert_allclose(model.predict(rows), entry.golden, rtol=1e-6)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_model_that_answers_otherwise_is_named(bundle: LoadedBundle, name: str) -> None:
    path = bundle.directory / MANIFEST_NAME
    content = json.loads(path.read_bytes())
    for model in content["models"]:
        if model["name"] == name:
            model["golden"][3] += 1e-4
    path.write_text(json.dumps(content))
    with pytest.raises(
        BundleError, match=f"model '{name}': does not answer as trained: golden row 3"
    ):
        load_model(settings(name), load_manifest(bundle.directory))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_changed_file_is_named_before_a_library_sees_it(bundle: LoadedBundle, name: str) -> None:
    entry = bundle.manifest.model(name)
    assert entry is not None
    path = bundle.directory / entry.artefact.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"^{path}: model '{name}': changed: SHA-256"):
        load_models([settings(name)], bundle)


def test_a_model_that_takes_other_columns_is_refused(bundle: LoadedBundle) -> None:
    path = bundle.directory / MANIFEST_NAME
    content = json.loads(path.read_bytes())
    content["schema"]["features"].pop()
    content["golden_rows"] = [row[:-1] for row in content["golden_rows"]]
    path.write_text(json.dumps(content))
    spoilt = load_manifest(bundle.directory)
    for name in MEMBERS:
        with pytest.raises(BundleError, match=f"model '{name}': (fails on|does not answer)"):
            load_model(settings(name), spoilt)


def test_a_bundle_without_golden_rows_is_taken_on_its_hashes(bundle: LoadedBundle) -> None:
    path = bundle.directory / MANIFEST_NAME
    content = json.loads(path.read_bytes())
    content["golden_rows"] = []
    for model in content["models"]:
        model["golden"] = []
    path.write_text(json.dumps(content))
    load_model(settings("xgboost"), load_manifest(bundle.directory))


def test_a_model_that_is_not_in_the_bundle_is_a_mistake_in_the_settings(
    bundle: LoadedBundle,
) -> None:
    with pytest.raises(ConfigurationError, match=r"no such model.*logistic_regression") as caught:
        load_model(settings("prophet"), bundle)
    assert caught.value.place == "models.prophet"
    with pytest.raises(ConfigurationError, match="expected a `callable`"):
        load_model(settings("prophet"), None)


def test_a_pinned_version_must_be_the_bundle_s(bundle: LoadedBundle) -> None:
    entry = bundle.manifest.model("xgboost")
    assert entry is not None
    load_model(settings("xgboost", version=entry.version), bundle)
    with pytest.raises(ConfigurationError) as caught:
        load_model(settings("xgboost", version="other"), bundle)
    assert caught.value.place == "models.xgboost.version"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "expected 'module:function'"),
        (":function", "expected 'module:function'"),
        ("no_such_module:function", "'no_such_module' cannot be imported: ModuleNotFoundError"),
        ("spoilt_module:function", "cannot be imported: ZeroDivisionError"),
        ("math:no_such_function", "'math' has no 'no_such_function'"),
        ("math:pi", "is a float, no function"),
    ],
)
def test_a_function_that_cannot_be_had_is_a_mistake_in_the_settings(
    name: str, message: str, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "spoilt_module.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_model(settings("mine", callable=name, version="1"), None)
    assert caught.value.place == "models.mine.callable"


def test_a_function_is_found_in_the_working_directory(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_scorer.py").write_text(
        "class Scorer:\n    @staticmethod\n    def score(rows):\n        return rows[:, 0] / 2\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = load_model(settings("mine", callable="my_scorer:Scorer.score", version="1"), None)
    np.testing.assert_array_equal(model.predict(np.array([[3.0]])), [1.5])


def test_a_library_that_is_not_installed_is_named(bundle: LoadedBundle, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(BundleError, match="model 'xgboost' needs the library 'xgboost'"):
        load_model(settings("xgboost"), bundle)


def test_adapters_are_found_by_format() -> None:
    for format_ in ADAPTERS:
        adapter = adapter_for(format_)
        assert callable(adapter.save)
        assert callable(adapter.load)
    with pytest.raises(BundleError, match="unknown format 'pickle'; expected one of scikit-learn"):
        adapter_for("pickle")


class Watched:
    name, version, minimum, maximum = "w", "1", 0.0, 1.0

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        self.shapes.append(matrix.shape)
        if len(matrix) > self.limit:
            raise ValueError("too many")
        return np.zeros(len(matrix))


def test_warming_asks_for_a_few_sizes_and_does_not_mind_a_refusal() -> None:
    ready, picky = Watched(10_000), Watched(5)
    warm(ready, 3)
    warm(picky, 3)
    assert ready.shapes == [(1, 3), (10, 3), (2000, 3)]
    assert picky.shapes == [(1, 3), (10, 3)]


LEAN = """
import sys
from pathlib import Path
from registry.bundle import load_manifest
from streams.settings import ModelSettings
from workers.lean import lean_imports
from workers.loading import load_models
names = ["xgboost", "lightgbm", "logistic_regression"]
bundle = load_manifest(Path(sys.argv[1]))
with lean_imports({"xgboost", "lightgbm", "scikit-learn"}):
    assert len(load_models([ModelSettings(name=name) for name in names], bundle)) == 3
print(sorted({"sklearn", "skops", "pandas", "pyarrow", "scipy.stats"} & sys.modules.keys()))
import pandas
"""


def test_a_worker_imports_no_library_that_its_models_do_not_need(trained: Path) -> None:
    """Each of them costs more than all that it needs, at every start and in memory."""
    command = [sys.executable, "-c", LEAN, str(trained)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[]\n"


def test_only_what_is_not_there_yet_is_hidden() -> None:
    with without("json", "no_such_module"):
        assert sys.modules["json"] is json
        with pytest.raises(ImportError):
            importlib.import_module("no_such_module")
    assert "no_such_module" not in sys.modules
