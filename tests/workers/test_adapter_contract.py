"""What every adapter promises, asked of every adapter there is."""

import importlib
import pkgutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import workers.adapters
from lab.members import MEMBERS, one_thread
from streams.errors import EnsembleError
from streams.features import Feature, FeatureSchema
from tests.workers.inference_server import shared_server
from workers.loading import ADAPTERS

SCHEMA = FeatureSchema(
    (
        Feature("amount"),
        Feature("age", required=False),
        Feature("member", kind="boolean", required=False),
        Feature("country", kind="category", vocabulary=("de", "fr", "it", "pl", "se", "uk")),
        Feature("colour", kind="category", vocabulary=("blue", "red"), required=False),
    )
)
ROWS = 1000


def make_matrix(seed: int, rows: int = ROWS) -> np.ndarray:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, len(SCHEMA)))
    matrix[:, 2] = random.integers(0, 2, rows)
    matrix[:, 3] = random.integers(0, 6, rows)
    matrix[:, 4] = random.integers(0, 2, rows)
    missing = random.random(matrix.shape) < 0.1
    missing[:, 0] = False
    matrix[missing] = np.nan
    return matrix


def make_labels(matrix: np.ndarray) -> np.ndarray:
    known = np.nan_to_num(matrix)
    return (known[:, 0] + known[:, 1] * known[:, 2] + (known[:, 3] == 2) > 0.3).astype(np.int64)


def a_function(matrix: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.nan_to_num(matrix).sum(axis=1)))


def as_it_is(kind: str):
    """scikit-learn models that have no plain form, whole or in part."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler

    last = (
        LogisticRegression() if kind == "logistic" else GradientBoostingClassifier(n_estimators=5)
    )
    return Pipeline([("fill", SimpleImputer()), ("squeeze", MinMaxScaler()), ("model", last)])


def a_forest(kind: str):
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    forest = {"random": RandomForestClassifier, "extra": ExtraTreesClassifier}[kind]
    return forest(20, random_state=1)


def a_graph():
    """`a_function` as ONNX operators, in float64."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("IsNaN", ["x"], ["gap"]),
        helper.make_node("Where", ["gap", "zero", "x"], ["known"]),
        helper.make_node("ReduceSum", ["known", "columns"], ["sum"], keepdims=0),
        helper.make_node("Neg", ["sum"], ["negative"]),
        helper.make_node("Exp", ["negative"], ["odds"]),
        helper.make_node("Add", ["odds", "one"], ["whole"]),
        helper.make_node("Div", ["one", "whole"], ["score"]),
    ]
    constants = {"zero": np.array(0.0), "one": np.array(1.0), "columns": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", len(SCHEMA)])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["rows"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def a_server(layout: str):
    """`a_function` in another process, over TCP."""
    from streams.settings import RemoteSettings
    from workers.adapters.open_inference import Remote

    server = RemoteSettings(
        url=shared_server().url,
        model="sums",
        version="1",
        layout=layout,
        datatype="FP64",
        max_rows=300,
        timeout_ms=20_000,
    )
    return Remote(server=server, features=SCHEMA.names)


def make(adapter: str, case: str):
    """A fitted estimator, and the function that gives its own answers."""
    if adapter == "callable":
        return a_function, a_function
    if adapter == "onnx":
        return a_graph(), a_function
    if adapter == "open_inference":
        return a_server(case), a_function
    matrix = make_matrix(1)
    with one_thread():
        if case in MEMBERS:
            estimator = MEMBERS[case].fit(SCHEMA, 0, matrix, make_labels(matrix))
        else:
            factory, kind = {"forest": a_forest, "as-it-is": as_it_is}[case.partition(" ")[0]], case
            estimator = factory(kind.partition(" ")[2]).fit(matrix, make_labels(matrix))
    return estimator, lambda rows: estimator.predict_proba(rows)[:, 1]


CASES = {
    "callable": ["function"],
    "lightgbm": ["lightgbm"],
    "onnx": ["graph"],
    "open_inference": ["matrix", "columns"],
    "scikit_learn": [
        "logistic_regression",
        "neural_network",
        "random_forest",
        "forest random",
        "forest extra",
        "as-it-is logistic",
        "as-it-is boosting",
    ],
    "xgboost": ["xgboost"],
}
FOUND = sorted(module.name for module in pkgutil.iter_modules(workers.adapters.__path__))


class Subject:
    def __init__(self, adapter: str, case: str) -> None:
        self.adapter = importlib.import_module(f"workers.adapters.{adapter}")
        self.estimator, self.answers = make(adapter, case)
        self.data = self.adapter.save(self.estimator)
        self.model = self.load(self.data)

    def load(self, data: bytes):
        return self.adapter.load(data, name="m", version="v", minimum=0.0, maximum=1.0)


@pytest.fixture(
    scope="module",
    params=[(adapter, case) for adapter in FOUND for case in CASES.get(adapter, ["?"])],
    ids=lambda param: "-".join(param).replace(" ", "-"),
)
def subject(request):
    return Subject(*request.param)


def test_all_six_adapters_are_found_and_have_cases_and_a_format() -> None:
    assert len(FOUND) == 6
    assert sorted(CASES) == FOUND
    assert sorted(ADAPTERS.values()) == [f"workers.adapters.{name}" for name in FOUND]


def test_it_carries_name_version_and_range(subject) -> None:
    model = subject.model
    assert (model.name, model.version, model.minimum, model.maximum) == ("m", "v", 0.0, 1.0)


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_it_answers_as_the_estimator_itself(subject, rows: int) -> None:
    matrix = make_matrix(rows + 1, rows)
    scores = subject.model.predict(matrix)
    assert scores.dtype == np.float64
    assert scores.shape == (rows,)
    np.testing.assert_allclose(scores, subject.answers(matrix), rtol=1e-9, atol=1e-12)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_row_scores_the_same_alone_and_in_company(subject) -> None:
    matrix = make_matrix(3, 50)
    alone = [subject.model.predict(matrix[i : i + 1])[0] for i in range(50)]
    np.testing.assert_allclose(subject.model.predict(matrix), alone, rtol=1e-9)


def test_no_rows_give_no_scores(subject) -> None:
    scores = subject.model.predict(np.empty((0, len(SCHEMA))))
    assert scores.shape == (0,)
    assert scores.dtype == np.float64


def test_a_row_with_nothing_but_gaps_is_scored(subject) -> None:
    scores = subject.model.predict(np.full((2, len(SCHEMA)), np.nan))
    assert np.isfinite(scores).all()


def test_the_input_is_not_written_to_and_may_be_read_only(subject) -> None:
    matrix = make_matrix(4)
    before = matrix.copy()
    scores = subject.model.predict(matrix)
    np.testing.assert_array_equal(matrix, before)
    matrix.setflags(write=False)
    np.testing.assert_array_equal(subject.model.predict(matrix), scores)


@pytest.mark.parametrize("layout", ["columns first", "every other row", "some columns of more"])
def test_any_layout_in_memory_is_accepted(subject, layout: str) -> None:
    matrix = make_matrix(5)
    other = {
        "columns first": np.asfortranarray(matrix),
        "every other row": np.repeat(matrix, 2, axis=0)[::2],
        "some columns of more": np.hstack([matrix, matrix])[:, : len(SCHEMA)],
    }[layout]
    expected = subject.model.predict(matrix)
    np.testing.assert_allclose(subject.model.predict(other), expected, rtol=1e-12)


def test_it_is_deterministic(subject) -> None:
    matrix = make_matrix(6)
    np.testing.assert_array_equal(subject.model.predict(matrix), subject.model.predict(matrix))


def test_it_answers_the_same_from_other_threads(subject) -> None:
    matrix = make_matrix(7)
    expected = subject.model.predict(matrix)
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(subject.model.predict, [matrix] * 16):
            np.testing.assert_array_equal(scores, expected)


def test_saving_twice_gives_the_same_bytes_and_loading_twice_the_same_answers(subject) -> None:
    assert subject.adapter.save(subject.estimator) == subject.data
    matrix = make_matrix(8)
    again = subject.load(subject.data)
    np.testing.assert_array_equal(again.predict(matrix), subject.model.predict(matrix))


@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04 cut short"])
def test_what_is_no_model_is_refused_in_words(subject, data: bytes) -> None:
    with pytest.raises(EnsembleError) as caught:
        subject.load(data)
    assert "\n" not in str(caught.value)
