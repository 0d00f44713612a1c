"""LightGBM, in its own text format."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import BundleError
from workers.adapters import LoadedModel


def save(estimator: Any) -> bytes:
    """The bytes of a fitted `LGBMClassifier` or `Booster`."""
    booster = getattr(estimator, "booster_", estimator)
    text: str = booster.model_to_string()
    return text.encode()


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
        BundleError: the bytes are no LightGBM model.
    """
    booster = booster_of(data)

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(booster.predict(matrix, num_threads=threads), dtype=np.float64)

    return LoadedModel(name, version, minimum, maximum, score, columns)


def booster_of(data: bytes) -> Any:
    """The `Booster` of which `save` wrote these bytes.

    Raises:
        BundleError: the bytes are no LightGBM model.
    """
    from lightgbm import Booster
    from lightgbm.basic import LightGBMError

    # The native parser trusts its input; it is shown nothing that does not begin as it should.
    if not data.startswith(b"tree\n"):
        raise BundleError("no LightGBM model: it does not begin with `tree`")
    try:
        return Booster(model_str=data.decode())
    except (LightGBMError, UnicodeDecodeError) as error:
        raise BundleError(f"no LightGBM model: {error}") from error
