"""XGBoost, in its own binary format (UBJ).

`inplace_predict` reads the matrix where it is; `predict` would first copy it into a DMatrix, which
for a single row costs several times the prediction itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import BundleError
from workers.adapters import LoadedModel


def save(estimator: Any) -> bytes:
    """The bytes of a fitted `XGBClassifier` or `Booster`."""
    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    return bytes(booster.save_raw("ubj"))


def load(
    data: bytes,
    *,
    name: str,
    version: str,
    minimum: float | None,
    maximum: float | None,
    columns: int = 1,
    threads: int = 1,
) -> LoadedModel:
    """A model from what `save` wrote.

    Raises:
        BundleError: the bytes are no XGBoost model.
    """
    booster, trees = booster_of(data)
    booster.set_param({"nthread": threads})

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        answer = booster.inplace_predict(
            matrix, iteration_range=(0, trees), validate_features=False
        )
        return np.asarray(answer, dtype=np.float64)

    return LoadedModel(name, version, minimum, maximum, score, columns)


def booster_of(data: bytes) -> tuple[Any, int]:
    """The `Booster` of which `save` wrote these bytes, and how many rounds of it count; 0 is all.

    Raises:
        BundleError: the bytes are no XGBoost model.
    """
    from xgboost import Booster
    from xgboost.core import XGBoostError

    # Some malformed input ends the native parser and the process with it: the hash of the file is
    # what protects against that, and this against an empty file.
    if not (data.startswith(b"{") and data.endswith(b"}")):
        raise BundleError("no XGBoost model: it is not one UBJ object")
    booster = Booster()
    try:
        booster.load_model(bytearray(data))
    except XGBoostError as error:
        problem = str(error).strip().splitlines()[0]
        raise BundleError(f"no XGBoost model: {problem}") from error
    # Trained with early stopping, the trees after the best iteration are not part of the model.
    best = booster.attributes().get("best_iteration")
    return booster, int(best) + 1 if best else 0
