"""ONNX models as the usual exporters write them, and those that are refused."""

import sys
import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from streams.errors import BundleError
from workers.adapters import onnx as adapter

ROWS, FEATURES = 400, 5
MATRIX = np.random.default_rng(0).normal(size=(ROWS, FEATURES))
LABELS = (MATRIX[:, 0] + MATRIX[:, 1] > 0.2).astype(np.int64)


def load(model, **changes):
    data = model if isinstance(model, bytes) else adapter.save(model)
    options = {"name": "m", "version": "v", "minimum": 0.0, "maximum": 1.0, **changes}
    return adapter.load(data, **options)


def graph(nodes, inputs, outputs, constants=None, **opsets: int):
    """A model from (operator, inputs, outputs) and {name: (type, shape)}."""
    made = helper.make_graph(
        [helper.make_node(op, list(i), list(o), domain=domain) for op, i, o, domain in nodes],
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", 17)]
    imports += [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(made, opset_imports=imports, ir_version=8)


def same(name: str) -> tuple[str, list[str], list[str], str]:
    return ("Identity", ["x"], [name], "")


FLOATS = (TensorProto.FLOAT, ["rows", FEATURES])


# -- what exporters write ------------------------------------------------------------------------


def exported(estimator, **options):
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(estimator, **options)


# `ZipMap` knows float32 only.
@pytest.mark.parametrize(
    ("number", "zipmap"), [(np.float32, True), (np.float32, False), (np.float64, False)]
)
def test_a_classifier_from_skl2onnx_with_and_without_maps(number, zipmap: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit(MATRIX, LABELS)
    model = exported(estimator, X=MATRIX[:1].astype(number), options={"zipmap": zipmap})
    expected = estimator.predict_proba(MATRIX)[:, 1]
    tolerance = 1e-9 if number is np.float64 else 1e-6
    np.testing.assert_allclose(load(model).predict(MATRIX), expected, atol=tolerance)


def test_a_forest_from_skl2onnx() -> None:
    from sklearn.ensemble import RandomForestClassifier

    estimator = RandomForestClassifier(20, random_state=0).fit(MATRIX, LABELS)
    rows = MATRIX.astype(np.float32)
    model = exported(estimator, X=rows[:1], options={"zipmap": False})
    expected = estimator.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(load(model).predict(rows.astype(float)), expected, atol=1e-6)


def test_a_regression_is_one_column() -> None:
    from sklearn.linear_model import LinearRegression

    estimator = LinearRegression().fit(MATRIX, MATRIX[:, 0] * 7)
    scores = load(exported(estimator, X=MATRIX[:1]), maximum=None).predict(MATRIX)
    assert scores.shape == (ROWS,)
    np.testing.assert_allclose(scores, estimator.predict(MATRIX), atol=1e-9)


@pytest.mark.parametrize("zipmap", [True, False])
def test_more_than_two_classes_keep_their_columns_in_order(zipmap: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression().fit(MATRIX, np.digitize(MATRIX[:, 0], [-0.5, 0.5]))
    model = exported(estimator, X=MATRIX[:1].astype(np.float32), options={"zipmap": zipmap})
    np.testing.assert_allclose(
        load(model).predict(MATRIX), estimator.predict_proba(MATRIX), atol=1e-6
    )


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_trees_from_onnxmltools(library: str) -> None:
    from lightgbm import LGBMClassifier
    from xgboost import XGBClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        rows = MATRIX.astype(np.float32).astype(np.float64)
        kinds = [("input", FloatTensorType([None, FEATURES]))]
        if library == "xgboost":
            estimator = XGBClassifier(n_estimators=20, n_jobs=1).fit(rows, LABELS)
            model = onnxmltools.convert_xgboost(estimator, initial_types=kinds)
        else:
            estimator = LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1).fit(rows, LABELS)
            model = onnxmltools.convert_lightgbm(estimator, initial_types=kinds)
        expected = estimator.predict_proba(rows)[:, 1]
    np.testing.assert_allclose(load(model).predict(rows), expected, atol=1e-5)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (
            graph(
                [("Add", ["x", "z"], ["y"], "")],
                {"x": FLOATS, "z": FLOATS},
                {"y": (TensorProto.FLOAT, ["rows", FEATURES])},
            ),
            r"takes 2 inputs, x: tensor\(float\)\['rows', 5\], z: .*; expected one tensor",
        ),
        (
            graph(
                [same("y")],
                {"x": (TensorProto.INT64, ["rows", 5])},
                {"y": (TensorProto.INT64, ["rows", 5])},
            ),
            r"takes x: tensor\(int64\)\['rows', 5\]; expected one tensor of floats",
        ),
        (
            graph([same("y")], {"x": (TensorProto.FLOAT, [3, 5])}, {"y": FLOATS}),
            "takes exactly 3 rows a call; export it for any number",
        ),
        (
            graph([same("a"), same("b")], {"x": FLOATS}, {"a": FLOATS, "b": FLOATS}),
            r"2 outputs can be the score \(a, b\); expected one",
        ),
        (
            graph(
                [("ArgMax", ["x"], ["label"], "")],
                {"x": FLOATS},
                {"label": (TensorProto.INT64, ["rows", FEATURES])},
            ),
            r"0 outputs can be the score \(none\)",
        ),
        (
            graph([("Evil", ["x"], ["y"], "evil")], {"x": FLOATS}, {"y": FLOATS}, evil=1),
            "no ONNX model that runs here: .*evil:Evil",
        ),
    ],
    ids=["two inputs", "integers", "fixed batch", "two scores", "labels only", "own operator"],
)
def test_what_cannot_be_scored_with_is_refused_in_words(model, problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        load(model)


def test_weights_outside_the_file_are_not_read(tmp_path, monkeypatch) -> None:
    weights = numpy_helper.from_array(np.ones((FEATURES, 64), np.float32), "w")
    model = graph(
        [("MatMul", ["x", "w"], ["y"], "")],
        {"x": FLOATS},
        {"y": (TensorProto.FLOAT, ["rows", 64])},
    )
    (tmp_path / "w.bin").write_bytes(weights.raw_data)
    size = len(weights.raw_data)
    monkeypatch.chdir(tmp_path)
    for location in ("w.bin", str(tmp_path / "w.bin"), f"..{tmp_path}/w.bin"):
        outside = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT)
        outside.dims.extend([FEATURES, 64])
        outside.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
            outside.external_data.add(key=key, value=value)
        with pytest.raises(BundleError, match="External data path"):
            load(model)
        del model.graph.initializer[:]


def test_a_wrong_number_of_features_raises_and_is_the_loader_s_to_judge() -> None:
    model = load(graph([same("y")], {"x": FLOATS}, {"y": FLOATS}))
    with pytest.raises(Exception, match="Got: 4 Expected: 5"):
        model.predict(MATRIX[:, :4])


def test_numbers_beyond_float32_become_infinite_without_a_word() -> None:
    model = load(graph([same("y")], {"x": FLOATS}, {"y": FLOATS}))
    assert np.isinf(model.predict(np.full((1, FEATURES), 1e300))).all()


def test_a_runtime_that_is_not_installed_is_an_import_error(monkeypatch) -> None:
    data = adapter.save(graph([same("y")], {"x": FLOATS}, {"y": FLOATS}))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="onnxruntime"):
        load(data)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_uses_the_threads_it_is_given(threads: int) -> None:
    data = adapter.save(graph([same("y")], {"x": FLOATS}, {"y": FLOATS}))
    options = adapter._session(data, threads).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
