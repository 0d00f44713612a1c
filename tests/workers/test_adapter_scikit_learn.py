"""What only the scikit-learn adapter can do wrong: trust, versions, and its plain forms."""

import io
import json
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

from lab.members import one_thread
from streams.errors import BundleError
from workers.adapters import scikit_learn
from workers.skops_values import UNKNOWN, read_values

RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(300, 4))
MATRIX[:, 3] = RANDOM.integers(0, 3, 300)
LABELS = (MATRIX[:, 0] + MATRIX[:, 3] > 1).astype(np.int64)


def load(data: bytes):
    return scikit_learn.load(data, name="m", version="v", minimum=0.0, maximum=1.0)


class Stranger(ClassifierMixin, BaseEstimator):
    def fit(self, matrix, labels):
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, matrix):
        return np.full((len(matrix), 2), 0.5)


def test_a_type_that_is_not_trusted_is_named_and_not_loaded() -> None:
    data = scikit_learn.save(Stranger().fit(MATRIX, LABELS))
    with pytest.raises(BundleError, match=r"not trusted: .*test_adapter_scikit_learn\.Stranger"):
        load(data)


def test_a_function_hidden_in_a_pipeline_is_not_trusted() -> None:
    hidden = FunctionTransformer(np.vectorize)
    pipeline = Pipeline([("f", hidden), ("m", LogisticRegression().fit(MATRIX, LABELS))])
    with pytest.raises(BundleError, match="not trusted"):
        load(scikit_learn.save(pipeline))


def test_another_version_of_scikit_learn_is_refused(monkeypatch) -> None:
    model = LogisticRegression().fit(MATRIX, LABELS)
    monkeypatch.setattr("sklearn.base.__version__", "1.2.3")
    data = scikit_learn.save(model)
    monkeypatch.undo()
    with pytest.raises(BundleError, match=r"saved by scikit-learn 1\.2\.3"):
        load(data)


def test_only_models_are_taken() -> None:
    with pytest.raises(BundleError, match="StandardScaler is neither a classifier with prob"):
        load(scikit_learn.save(StandardScaler().fit(MATRIX)))
    with pytest.raises(BundleError, match="RidgeClassifier is neither a classifier with prob"):
        load(scikit_learn.save(RidgeClassifier().fit(MATRIX, LABELS)))


CLASSES = np.digitize(MATRIX[:, 0] + MATRIX[:, 3], [0.5, 2.0])
AMOUNTS = 50.0 + 10.0 * MATRIX[:, 0] - MATRIX[:, 3] ** 2


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        OneVsRestClassifier(LogisticRegression()),
        MLPClassifier((5,), max_iter=5, random_state=0),
        RandomForestClassifier(9, random_state=0),
        ExtraTreesClassifier(9, random_state=0),
        GaussianNB(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_several_classes_are_as_many_columns(model) -> None:
    with one_thread():
        model.fit(MATRIX, CLASSES)
    answers = load(scikit_learn.save(model)).predict(MATRIX)
    assert answers.shape == (300, 3)
    np.testing.assert_allclose(answers, model.predict_proba(MATRIX), rtol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        Ridge(),
        ElasticNet(),
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0),
        RandomForestRegressor(9, random_state=0),
        ExtraTreesRegressor(9, random_state=0),
        TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
        TransformedTargetRegressor(Ridge(), transformer=MinMaxScaler()),
    ],
    ids=str,
)
def test_a_regressor_gives_its_values(model) -> None:
    with one_thread():
        model.fit(MATRIX, AMOUNTS)
    answers = load(scikit_learn.save(model)).predict(MATRIX)
    assert answers.shape == (300,)
    np.testing.assert_allclose(answers, model.predict(MATRIX), rtol=1e-12)


def test_the_file_says_nothing_about_memory_or_time() -> None:
    data = scikit_learn.save(RandomForestClassifier(5, random_state=0).fit(MATRIX, LABELS))
    again = scikit_learn.save(RandomForestClassifier(5, random_state=0).fit(MATRIX, LABELS))
    assert data == again
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("schema.json"))["__class__"] == "RandomForestClassifier"


def columns(**changes) -> ColumnTransformer:
    """Preparation whose parts have plain forms, unless `changes` takes one away."""
    numbers = Pipeline(
        [("i", SimpleImputer(**changes.pop("imputer", {}))), ("s", StandardScaler())]
    )
    one_hot = OneHotEncoder(
        **{"handle_unknown": "ignore", "sparse_output": False, **changes.pop("one_hot", {})}
    )
    return ColumnTransformer(
        [("numbers", numbers, [0, 1, 2]), ("categories", one_hot, [3])], **changes
    )


@pytest.mark.parametrize(
    "preparation",
    [
        columns(),
        columns(imputer={"add_indicator": True}),
        columns(one_hot={"drop": "first"}),
        columns(one_hot={"max_categories": 2}),
        columns(one_hot={"sparse_output": True}, sparse_threshold=1.0),
        columns(transformer_weights={"numbers": 2.0}),
        columns(remainder="passthrough"),
        ColumnTransformer([("numbers", "passthrough", [0, 1])]),
        ColumnTransformer([("numbers", StandardScaler(), slice(0, 2)), ("rest", "drop", [2, 3])]),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        "passthrough",
    ],
    ids=str,
)
def test_preparation_is_the_same_with_and_without_a_plain_form(preparation) -> None:
    pipeline = Pipeline([("prepare", preparation), ("model", LogisticRegression(max_iter=1000))])
    pipeline.fit(MATRIX, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an unknown category under `drop`
        np.testing.assert_allclose(
            load(scikit_learn.save(pipeline)).predict(MATRIX),
            pipeline.predict_proba(MATRIX)[:, 1],
            rtol=1e-12,
        )


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 4, 3)])
def test_neural_networks_of_every_form(activation: str, hidden: tuple[int, ...]) -> None:
    with one_thread():
        model = MLPClassifier(hidden, activation=activation, max_iter=5, random_state=0)
        model.fit(MATRIX, LABELS)
    np.testing.assert_allclose(
        load(scikit_learn.save(model)).predict(MATRIX),
        model.predict_proba(MATRIX)[:, 1],
        rtol=1e-12,
    )


@pytest.fixture(scope="module")
def forest():
    holed = MATRIX.copy()
    holed[RANDOM.random(holed.shape) < 0.2] = np.nan
    model = RandomForestClassifier(25, random_state=3).fit(holed, LABELS)
    return model, load(scikit_learn.save(model))


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(*[st.floats(-1e9, 1e9) | st.just(float("nan"))] * 4), min_size=1, max_size=20
    )
)
def test_a_forest_gives_exactly_what_predict_proba_gives(forest, rows) -> None:
    model, loaded = forest
    matrix = np.array(rows)
    np.testing.assert_array_equal(loaded.predict(matrix), model.predict_proba(matrix)[:, 1])


def test_a_forest_takes_numbers_beyond_float32(forest) -> None:
    _, loaded = forest
    enormous = loaded.predict(np.full((1, 4), 1e300))
    np.testing.assert_array_equal(enormous, loaded.predict(np.full((1, 4), 1e30)))


def test_values_are_read_without_the_library_where_they_are_enough() -> None:
    model = Pipeline([("scale", StandardScaler()), ("m", LogisticRegression())]).fit(MATRIX, LABELS)
    values = read_values(scikit_learn.save(model))
    (_, scaler), (_, last) = values.steps
    assert type(last).__name__ == "LogisticRegression"
    assert type(last) is not LogisticRegression
    np.testing.assert_array_equal(last.coef_, model[-1].coef_)
    np.testing.assert_array_equal(scaler.mean_, model[0].mean_)
    assert not hasattr(last, "predict_proba"), "nothing of it can be called"


def test_what_holds_a_stranger_has_no_values() -> None:
    model = LogisticRegression().fit(MATRIX, LABELS)
    model.guest = Stranger()
    assert read_values(scikit_learn.save(model)) is UNKNOWN


@pytest.mark.parametrize("x", [-1000.0, -30.0, -1.0, 0.0, 1e-9, 2.5, 30.0, 1000.0])
def test_the_logistic_function_is_exact_to_the_last_digits(x: float) -> None:
    from scipy.special import expit

    found = scikit_learn._expit(np.array([x]))[0]
    assert found == pytest.approx(expit(x), rel=1e-15, abs=1e-300)
