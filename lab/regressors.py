"""The members of the default ensemble for regression; those for classes are in `lab/members.py`."""

from typing import Any

from lab.members import (
    Labels,
    Matrix,
    Member,
    categories,
    lightgbm_parameters,
    network_parameters,
    prepared,
    xgboost_parameters,
)
from streams.features import FeatureSchema


def _scaled(model: Any) -> Any:
    """The model on a target of mean 0 and deviation 1, which networks need to learn at all."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(model, transformer=StandardScaler())


def _linear_regression(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from sklearn.linear_model import Ridge

    return prepared(schema, Ridge(random_state=seed)).fit(matrix, truth)


def _random_forest(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    del schema
    model = RandomForestRegressor(n_estimators=50, min_samples_leaf=5, random_state=seed)
    return model.fit(matrix, truth)


def _neural_network(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(max_iter=200, **network_parameters(len(truth), seed))
    return prepared(schema, _scaled(model)).fit(matrix, truth)


def _xgboost(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from xgboost import XGBRegressor

    return XGBRegressor(**xgboost_parameters(schema, seed)).fit(matrix, truth)


def _lightgbm(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(min_child_samples=20, **lightgbm_parameters(seed))
    return model.fit(matrix, truth, categorical_feature=categories(schema))


REGRESSORS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("linear_regression", "scikit-learn", _linear_regression),
        Member("random_forest", "scikit-learn", _random_forest),
        Member("neural_network", "scikit-learn", _neural_network),
        Member("xgboost", "xgboost", _xgboost),
        Member("lightgbm", "lightgbm", _lightgbm),
    )
}
