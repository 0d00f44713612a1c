"""Training: from a file to a bundle that loads, scores and is the same each time."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from combiner.catalogue import catalogue
from lab.members import MEMBERS, members_named
from lab.metrics import calibration_error, evaluate
from lab.progress import bars, silent
from lab.table import encode, events, labels, read_table, texts
from lab.train import GOLDEN_ROWS, TrainedBundle, train_bundle
from registry.bundle import load_manifest, verify
from streams.errors import BundleError, DataError
from streams.events import EventDecoder
from streams.settings import ModelSettings
from workers.loading import load_models

CREDIT = Path(__file__).parents[2] / "examples/credit/credit_default.csv.gz"
CREDIT_LABEL = "default.payment.next.month"
QUICK = ["logistic_regression", "lightgbm"]
ALL = [ModelSettings(name=name) for name in MEMBERS]


def made_up(rows: int) -> dict[str, list[object]]:
    random = np.random.default_rng(7)
    x, y = random.normal(size=(2, rows))
    colour = random.choice(["red", "green", "blue"], rows)
    vip = random.random(rows) < 0.3
    truth = x + (colour == "red") + vip + random.normal(size=rows) > 0.8
    gaps = random.random((3, rows)) < 0.1
    return {
        "customer": [f"c-{row}" for row in range(rows)],
        "x": [round(v, 6) for v in x.tolist()],
        "y": [None if gap else round(v, 6) for v, gap in zip(y.tolist(), gaps[0], strict=True)],
        "colour": [None if g else str(c) for c, g in zip(colour, gaps[1], strict=True)],
        "vip": [None if g else bool(v) for v, g in zip(vip, gaps[2], strict=True)],
        "bought": [bool(t) for t in truth],
    }


def write_parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def write_csv(path: Path, columns: dict[str, list[object]]) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join([",".join(columns), *lines]))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("data") / "rows.parquet", made_up(600))


@pytest.fixture(scope="module")
def trained(data: Path) -> TrainedBundle:
    return train_bundle(
        data, "bought", "customer", data.parent / "bundle", holdout_out=data.parent / "held.csv.gz"
    )


def test_the_bundle_is_whole_and_every_model_loads(trained: TrainedBundle) -> None:
    verify(trained.bundle)
    assert load_manifest(trained.bundle.directory) == trained.bundle
    models = load_models(ALL, trained.bundle)
    assert [model.name for model in models] == list(MEMBERS)


def test_the_manifest_tells_what_was_trained(trained: TrainedBundle, data: Path) -> None:
    manifest = trained.bundle.manifest
    assert {f.name: (f.kind, f.required) for f in manifest.schema.features} == {
        "x": ("number", True),
        "y": ("number", False),
        "colour": ("category", False),
        "vip": ("boolean", False),
    }
    assert (trained.training_rows, trained.holdout_rows) == (480, 120)
    assert manifest.data.rows == 480
    assert manifest.data.label == "bought"
    truth = np.array(made_up(600)["bought"])
    assert manifest.data.positive_share == pytest.approx(truth.mean(), abs=0.002)
    assert set(manifest.libraries) == {"numpy", "scikit-learn", "skops", "xgboost", "lightgbm"}
    assert set(manifest.calibrations) == set(manifest.quantiles) == set(MEMBERS)
    assert len(manifest.stacking.fits) == 31
    assert all(len(found) == 101 for found in manifest.quantiles.values())
    assert len(manifest.golden_rows) == GOLDEN_ROWS
    for column in (1, 2, 3):
        assert any(row[column] is None for row in manifest.golden_rows)
    assert all(row[0] is not None for row in manifest.golden_rows)


def test_metrics_are_those_of_the_held_out_rows(trained: TrainedBundle, data: Path) -> None:
    held = read_table(data.parent / "held.csv.gz")
    truth = labels(held, "bought")
    matrix = encode(held, trained.bundle.manifest.schema)
    for model in load_models(ALL, trained.bundle):
        found = evaluate(truth, model.predict(matrix))
        assert trained.members[model.name] == pytest.approx(found, abs=1e-6)
    assert set(trained.strategies) == set(catalogue())
    assert trained.strategies["stacking"]["auc"] > 0.7


def test_held_out_rows_are_a_fifth_and_stratified_with_all_columns(trained, data: Path) -> None:
    everything, held = read_table(data), read_table(data.parent / "held.csv.gz")
    assert list(held.columns) == list(everything.columns)
    assert set(texts(held, "customer")) < set(texts(everything, "customer"))
    share = labels(everything, "bought").mean()
    assert labels(held, "bought").mean() == pytest.approx(share, abs=0.01)


def test_held_out_rows_as_events_score_as_they_did_as_rows(trained, data: Path) -> None:
    schema = trained.bundle.manifest.schema
    held = read_table(data.parent / "held.csv.gz")
    values = events(held, schema, exclude={"bought"})
    decoder = EventDecoder(schema, id_path=("customer",))
    decoded = decoder.decode(values, [None] * held.rows, np.zeros(held.rows, np.int64), str)
    assert not decoded.bad
    assert decoded.ids == texts(held, "customer")
    np.testing.assert_array_equal(decoded.matrix, encode(held, schema))


def test_the_same_data_and_seed_give_the_same_bundle(trained, data: Path, tmp_path: Path) -> None:
    again = train_bundle(data, "bought", "customer", tmp_path / "again")
    assert again.bundle.version == trained.bundle.version
    for path in trained.bundle.directory.rglob("*"):
        if path.is_file():
            twin = again.bundle.directory / path.relative_to(trained.bundle.directory)
            assert path.read_bytes() == twin.read_bytes()


def test_the_number_of_cores_changes_nothing(data: Path, tmp_path: Path, monkeypatch) -> None:
    versions = set()
    for cores in (1, 5):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        with threadpool_limits(cores):
            trained = train_bundle(data, "bought", "customer", tmp_path / str(cores))
        versions.add(trained.bundle.version)
    assert len(versions) == 1


def test_another_seed_gives_another_bundle(data: Path, tmp_path: Path) -> None:
    versions = {
        train_bundle(
            data, "bought", "customer", tmp_path / str(seed), seed=seed, members=QUICK
        ).bundle.version
        for seed in (0, 1)
    }
    assert len(versions) == 2


def test_csv_and_parquet_train_the_same_models(data: Path, tmp_path: Path) -> None:
    files = [data, write_csv(tmp_path / "rows.csv", made_up(600))]
    first, second = (
        train_bundle(file, "bought", "customer", tmp_path / f"b{i}", members=QUICK).bundle.manifest
        for i, file in enumerate(files)
    )
    assert first.schema == second.schema
    assert first.models == second.models
    assert first.data.sha256 != second.data.sha256


def test_progress_counts_every_fit(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    train_bundle(
        data,
        "bought",
        "customer",
        tmp_path / "b",
        members=QUICK,
        folds=3,
        progress=lambda *step: seen.append(step),
    )
    assert seen == [("models", done, 8) for done in range(9)]


def test_without_a_holdout_there_are_no_metrics(data: Path, tmp_path: Path) -> None:
    trained = train_bundle(data, "bought", None, tmp_path / "b", holdout=0, members=QUICK)
    assert (trained.training_rows, trained.holdout_rows) == (600, 0)
    assert trained.members == {name: {} for name in QUICK}
    assert trained.strategies == {}
    assert trained.left_out == ("customer",)
    load_models([ModelSettings(name=name) for name in QUICK], trained.bundle)


@pytest.mark.parametrize("only", ["number", "category", "boolean"])
def test_features_of_one_kind_are_enough(tmp_path: Path, only: str) -> None:
    column = {"number": "x", "category": "colour", "boolean": "vip"}[only]
    rows = made_up(200)
    file = write_parquet(tmp_path / "d.parquet", {n: rows[n] for n in (column, "bought")})
    trained = train_bundle(file, "bought", None, tmp_path / "b")
    assert [f.kind for f in trained.bundle.manifest.schema.features] == [only]
    assert len(load_models(ALL, trained.bundle)) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "sold"}, "no column 'sold'; there are 'customer', 'x'"),
        ({"id": "key"}, "no column 'key'"),
        ({"label": "colour"}, "label 'colour' is missing in"),
        ({"label": "colour", "task": "binary"}, "label 'colour' holds"),
        ({"label": "vip"}, "label 'vip' is missing in"),
        ({"members": ["prophet"]}, "members: prophet; expected some of logistic_regression"),
        ({"members": []}, "members: none; expected some of"),
        ({"members": ["xgboost", "xgboost"]}, "each once"),
        ({"holdout": 1.0}, "expected 0 ≤ holdout < 1"),
        ({"folds": 1}, "folds ≥ 2"),
        ({"folds": 500}, "rows have the rarer label, too few for 500 folds"),
        ({"holdout": 0.0001}, "too few for 5 folds and a holdout of 0.0001"),
        ({"holdout": 0, "holdout_out": Path("x.csv")}, "no held-out rows to write"),
        ({"data": Path("no.csv")}, "no.csv: no such file"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(data, tmp_path, changes, message) -> None:
    arguments = {"data": data, "label": "bought", "id": "customer", "out": tmp_path / "b"}
    with pytest.raises(DataError) as caught:
        train_bundle(**(arguments | changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b").exists()


def test_a_bundle_in_the_way_is_noticed_before_training(trained, data: Path) -> None:
    calls: list[object] = []
    with pytest.raises(BundleError, match="a bundle exists already"):
        train_bundle(
            data,
            "bought",
            "customer",
            trained.bundle.directory,
            progress=lambda *step: calls.append(step),
        )
    assert not calls


def test_a_fit_that_fails_ends_the_training(data: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    broken = MEMBERS["xgboost"].__class__("xgboost", "xgboost", fail)
    monkeypatch.setitem(MEMBERS, "xgboost", broken)
    with pytest.raises(MemoryError):
        train_bundle(data, "bought", "customer", tmp_path / "b", members=["xgboost"])
    assert not (tmp_path / "b").exists()


def test_two_thousand_rows_of_real_data(tmp_path: Path) -> None:
    import gzip

    lines = gzip.decompress(CREDIT.read_bytes()).splitlines(keepends=True)[:2001]
    (tmp_path / "credit.csv").write_bytes(b"".join(lines))
    trained = train_bundle(
        tmp_path / "credit.csv",
        CREDIT_LABEL,
        "ID",
        tmp_path / "bundle",
        holdout_out=tmp_path / "held.csv",
    )
    assert len(trained.bundle.manifest.schema) == 23
    assert all(feature.required for feature in trained.bundle.manifest.schema.features)
    assert trained.left_out == ()
    held = read_table(tmp_path / "held.csv")
    matrix = encode(held, trained.bundle.manifest.schema)
    scores = np.mean([m.predict(matrix) for m in load_models(ALL, trained.bundle)], axis=0)
    assert roc_auc_score(labels(held, CREDIT_LABEL), scores) > 0.7
    assert trained.strategies["stacking"]["auc"] > 0.65  # 400 rows tell no more


def test_members_keep_their_order() -> None:
    assert [m.name for m in members_named(None)] == list(MEMBERS)
    assert [m.name for m in members_named(["xgboost", "random_forest"])] == [
        "xgboost",
        "random_forest",
    ]


def test_calibration_error_is_the_mean_gap() -> None:
    truth = np.array([0, 0, 1, 1])
    assert calibration_error(truth, np.array([0.0, 0.0, 1.0, 1.0])) == 0
    assert calibration_error(truth, np.array([1.0, 1.0, 0.0, 0.0])) == 1
    assert calibration_error(truth, np.full(4, 0.75)) == pytest.approx(0.25)


def test_bars_are_off_where_nobody_watches() -> None:
    with bars() as progress:
        assert progress is silent
        progress("models", 1, 2)


def test_bars_are_drawn_on_a_terminal(monkeypatch) -> None:
    controller, terminal = os.openpty()
    with os.fdopen(controller, "rb", buffering=0) as screen, os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        monkeypatch.setenv("TERM", "xterm")
        with bars() as progress:
            for done in range(3):
                progress("models", done, 2)
        stderr.close()
        drawn = b""
        with suppress(OSError):  # which is how the end of a terminal reads
            while part := screen.read(65536):
                drawn += part
        assert b"models" in drawn
