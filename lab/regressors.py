"""The members of the default ensemble for regression; those for classes are in `lab/members.py`."""

from typing import Any

from lab.members import Labels, Matrix, Member, categories, prepared
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

    model = MLPRegressor(
        hidden_layer_sizes=(32, 16),
        alpha=1e-3,
        batch_size=min(256, len(truth)),
        # A tenth of fewer rows is too few to tell when to stop.
        early_stopping=len(truth) >= 1000,
        n_iter_no_change=5,
        max_iter=200,
        random_state=seed,
    )
    return prepared(schema, _scaled(model)).fit(matrix, truth)


def _xgboost(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from xgboost import XGBRegressor

    coded = categories(schema)
    model = XGBRegressor(
        n_estimators=100,
        max_depth=4,
        learning_rate=0.1,
        subsample=0.8,
        colsample_bytree=0.8,
        min_child_weight=5,
        enable_categorical=True,
        feature_types=["c" if i in coded else "q" for i in range(len(schema))],
        n_jobs=1,
        random_state=seed,
    )
    return model.fit(matrix, truth)


def _lightgbm(schema: FeatureSchema, seed: int, matrix: Matrix, truth: Labels) -> Any:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(
        n_estimators=100,
        num_leaves=15,
        learning_rate=0.07,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.8,
        min_child_samples=20,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        random_state=seed,
        verbose=-1,
    )
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
