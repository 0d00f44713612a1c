"""One file per model library; each is imported only when a model of its kind is loaded.

Every adapter has the same two verbs: `save(estimator) -> bytes` and
`load(data, *, name, version, minimum, maximum, columns=1, threads=1) -> Model`. What cannot be
loaded raises `BundleError` (or, for `callable`, `ConfigurationError`) with the problem alone; the
loader adds the file's or the setting's name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Score = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A `workers.protocol.Model` made of a function from float64[N, F] to its answers."""

    name: str
    version: str
    minimum: float | None
    maximum: float | None
    score: Score
    columns: int = 1

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the rows; no library is asked about no rows."""
        return self.score(matrix) if len(matrix) else nothing(self.columns)


def nothing(columns: int) -> NDArray[np.float64]:
    """The answers to no rows."""
    return np.empty(0 if columns == 1 else (0, columns))
