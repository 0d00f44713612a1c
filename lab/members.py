"""The members of the default ensemble: five kinds of learner that err in different ways.

Each takes the feature matrix as it is on the wire: categories as codes, missing as NaN. Linear and
neural models get them imputed, scaled and one-hot; trees take them as they are. Each fit uses one
thread, so that the same seed gives the same model on any number of cores.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.manifest import ModelFormat, Task
from streams.errors import DataError
from streams.features import FeatureSchema

Matrix = NDArray[np.float64]
# Of classes their places, for regression amounts.
Labels = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Member:
    """A learner: `fit(schema, seed, matrix, truth)` gives a fitted estimator.

    It has `predict_proba`, with a column for each class, or for regression `predict`.
    """

    name: str
    format: ModelFormat
    fit: Callable[[FeatureSchema, int, Matrix, Labels], Any]

    @property
    def path(self) -> str:
        """Where its file is in a bundle."""
        return f"models/{self.name}.{_ENDINGS[self.format]}"


_ENDINGS: dict[ModelFormat, str] = {"scikit-learn": "skops", "xgboost": "ubj", "lightgbm": "txt"}


@contextmanager
def one_thread() -> Iterator[None]:
    """Numpy's and scipy's algebra on one thread, and no word about a fit that stopped early.

    How many threads share a sum decides in which order it is added up, and so its last digit.
    """
    import scipy.linalg  # noqa: F401 - only what is loaded can be told
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def members_named(names: Sequence[str] | None, task: Task = "binary") -> list[Member]:
    """The members of those names, or all. Raises DataError for a name that there is not."""
    there_are = MEMBERS
    if task == "regression":
        from lab.regressors import REGRESSORS

        there_are = REGRESSORS
    if names is None:
        return list(there_are.values())
    unknown = [name for name in names if name not in there_are]
    if unknown or not names or len(set(names)) < len(names):
        found = ", ".join(names) or "none"
        raise DataError(f"members: {found}; expected some of {', '.join(there_are)}, each once")
    return [there_are[name] for name in names]


def categories(schema: FeatureSchema) -> list[int]:
    """The columns that hold categories."""
    return [i for i, feature in enumerate(schema.features) if feature.kind == "category"]


def prepared(schema: FeatureSchema, model: Any) -> Any:
    """A pipeline: numbers imputed by their median and scaled, categories one-hot, then the model.

    A category that is missing or unknown has no one-hot column set.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    coded = categories(schema)
    numbers = [i for i in range(len(schema)) if i not in coded]
    codes = [np.arange(float(len(schema.features[i].vocabulary))) for i in coded]
    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    parts = [
        ("numbers", Pipeline([("impute", impute), ("scale", StandardScaler())]), numbers),
        (
            "categories",
            OneHotEncoder(categories=codes, handle_unknown="ignore", sparse_output=False),
            coded,
        ),
    ]
    columns = ColumnTransformer([part for part in parts if part[2]])
    return Pipeline([("columns", columns), ("model", model)])


def _logistic_regression(schema: FeatureSchema, seed: int, matrix: Matrix, labels: Labels) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, random_state=seed)
    return prepared(schema, model).fit(matrix, labels)


def _random_forest(schema: FeatureSchema, seed: int, matrix: Matrix, labels: Labels) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    # Leaves of twenty rows: probabilities and not votes, and trees that fit into the CPU's cache.
    del schema
    model = RandomForestClassifier(n_estimators=50, min_samples_leaf=20, random_state=seed)
    return model.fit(matrix, labels)


def network_parameters(rows: int, seed: int) -> dict[str, Any]:
    """Of a small network, whatever it predicts."""
    return {
        "hidden_layer_sizes": (32, 16),
        "alpha": 1e-3,
        "batch_size": min(256, rows),
        # A tenth of fewer rows is too few to tell when to stop.
        "early_stopping": rows >= 1000,
        "n_iter_no_change": 5,
        "random_state": seed,
    }


def xgboost_parameters(schema: FeatureSchema, seed: int) -> dict[str, Any]:
    """Of XGBoost, whatever it predicts."""
    coded = categories(schema)
    return {
        "n_estimators": 100,
        "max_depth": 4,
        "learning_rate": 0.1,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "min_child_weight": 5,
        "enable_categorical": True,
        "feature_types": ["c" if i in coded else "q" for i in range(len(schema))],
        "n_jobs": 1,
        "random_state": seed,
    }


def lightgbm_parameters(seed: int) -> dict[str, Any]:
    """Of LightGBM, whatever it predicts."""
    return {
        "n_estimators": 100,
        "num_leaves": 15,
        "learning_rate": 0.07,
        "subsample": 0.8,
        "subsample_freq": 1,
        "colsample_bytree": 0.8,
        "deterministic": True,
        "force_row_wise": True,
        "n_jobs": 1,
        "random_state": seed,
        "verbose": -1,
    }


def _neural_network(schema: FeatureSchema, seed: int, matrix: Matrix, labels: Labels) -> Any:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(max_iter=40, **network_parameters(len(labels), seed))
    return prepared(schema, model).fit(matrix, labels)


def _xgboost(schema: FeatureSchema, seed: int, matrix: Matrix, labels: Labels) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(**xgboost_parameters(schema, seed)).fit(matrix, labels)


def _lightgbm(schema: FeatureSchema, seed: int, matrix: Matrix, labels: Labels) -> Any:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(min_child_samples=30, **lightgbm_parameters(seed))
    return model.fit(matrix, labels, categorical_feature=categories(schema))


MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("logistic_regression", "scikit-learn", _logistic_regression),
        Member("random_forest", "scikit-learn", _random_forest),
        Member("neural_network", "scikit-learn", _neural_network),
        Member("xgboost", "xgboost", _xgboost),
        Member("lightgbm", "lightgbm", _lightgbm),
    )
}
