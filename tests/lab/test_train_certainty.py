"""What training learns about the ensemble's own scores, from the command to the decision."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from cli.main import app
from combiner.assembly import combiner_of
from combiner.refining import knowledge_of, refinement_of, threshold_of
from registry.bundle import LoadedBundle, load_manifest, read_certainty, read_competence, verify
from streams.errors import BundleError, ConfigurationError
from streams.settings import CertaintySettings, SelectionSettings, Settings

ROWS = 500
NAMES = ("logistic_regression", "lightgbm")
ASKED = ["--calibration", "platt", "--coverage", "0.8", "--threshold", "cost:1,4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(2, ROWS))
    truth = x + np.abs(y) + random.normal(size=ROWS) > 1.0
    folder = tmp_path_factory.mktemp("certainty")
    pyarrow.parquet.write_table(pa.table({"x": x, "y": y, "label": truth}), folder / "rows.parquet")
    command = ["train", str(folder / "rows.parquet"), "--label", "label", "--members"]
    command += [",".join(NAMES), "--strategy", "mean", "--out", str(folder / "bundle"), *ASKED]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return load_manifest(folder / "bundle")


def settings(selection: str = "all", strategy: str = "mean", **certainty: bool) -> Settings:
    made = Settings.model_validate(
        {
            "models": [{"name": name, "external": True} for name in NAMES],
            "combiner": {"strategy": strategy},
        }
    )
    return made.model_copy(
        update={
            "certainty": CertaintySettings(**certainty),
            "selection": SelectionSettings(method=selection, max_models=1),
        }
    )


def test_the_bundle_holds_both_files_and_their_hashes(trained: LoadedBundle) -> None:
    verify(trained)
    certainty, competence = read_certainty(trained), read_competence(trained)
    assert certainty is not None
    assert certainty.strategy == "mean"
    assert certainty.members == NAMES
    assert sorted(certainty.calibrations) == ["01", "10", "11"]
    assert certainty.conformal is not None
    assert (certainty.conformal.method, certainty.conformal.coverage) == ("lac", 0.8)
    assert certainty.threshold is not None
    assert certainty.threshold.criterion == "cost:1,4"
    assert competence is not None
    assert competence.rows.shape == (trained.manifest.data.rows, 2)


def test_a_file_that_was_changed_is_refused(trained: LoadedBundle, tmp_path: Path) -> None:
    for path in (trained.directory / "competence.msgpack", trained.directory / "certainty.json"):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"x")
        with pytest.raises(BundleError, match=f"{path.name}: changed"):
            verify(load_manifest(trained.directory))
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "method", ["overall_local_accuracy", "knora_eliminate", "knora_union", "region_best"]
)
def test_every_selection_is_made_of_the_bundle(trained: LoadedBundle, method: str) -> None:
    configured = settings(method)
    knowledge = knowledge_of(trained, configured)
    made = refinement_of(configured, trained.manifest, knowledge)
    assert made.selection is not None
    assert made.selection.name == method
    combiner_of(configured, trained.manifest, "e@1", lambda _: [], 0, knowledge)


def test_the_threshold_is_the_bundles(trained: LoadedBundle) -> None:
    configured = settings(calibrate=True, threshold=True)
    certainty = knowledge_of(trained, configured).certainty
    assert certainty is not None
    assert certainty.threshold is not None
    assert threshold_of(configured, certainty) == certainty.threshold.threshold
    assert threshold_of(settings(), None) == 0.5


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (settings(strategy="median", promise=True), "knows it of the strategy `mean`"),
        (settings("knora_union", promise=True), "knows it without a selection"),
        (settings(threshold=True), "chosen with certainty.calibrate = true"),
    ],
)
def test_what_the_bundle_does_not_know_is_refused(trained, configured, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        combiner_of(
            configured,
            trained.manifest,
            "e@1",
            lambda _: [],
            0,
            knowledge_of(trained, configured),
        )


def test_a_bundle_that_was_not_asked_says_how_to_ask(trained: LoadedBundle) -> None:
    plain = msgspec.structs.replace(trained.manifest, certainty=None)
    bare = replace(trained, manifest=plain)
    configured = settings(promise=True)
    with pytest.raises(ConfigurationError, match="train it with `--calibration`, `--coverage` or"):
        refinement_of(configured, plain, knowledge_of(bare, configured))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibration", "magic"], "expected one of isotonic, platt, temperature"),
        (["--coverage", "1.5"], "coverage 1.5; expected it between 0 and 1"),
        (["--coverage", "0.9", "--conformal", "absolute"], "expected one of lac, aps"),
        (["--threshold", "best"], "expected f1, mcc, youden, or cost"),
        (["--strategy", "guess", "--threshold", "f1"], "strategy 'guess'; expected one of"),
    ],
)
def test_the_command_says_what_it_expected(trained, tmp_path, arguments, message: str) -> None:
    data = str(trained.directory.parent / "rows.parquet")
    command = ["train", data, "--label", "label", "--out", str(tmp_path / "b"), *arguments]
    result = CliRunner().invoke(app, command)
    assert message in str(result.exception)
