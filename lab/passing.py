"""A classifier whose decisions are its input, so that scikit-learn calibrates what it is given."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin


class Passing(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Passes its columns through; a single one is the decision for the second of two classes."""

    def __init__(self, classes: NDArray[np.int64]) -> None:
        self.classes = classes
        self.classes_ = classes

    def fit(self, matrix: Any, labels: Any) -> Self:
        """There is nothing to learn."""
        del matrix, labels
        return self

    def decision_function(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[N] or float64[N, K]."""
        return matrix[:, 0] if matrix.shape[1] == 1 else matrix

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64[N]: the class of the largest decision."""
        decisions = self.decision_function(matrix)
        return (decisions > 0).astype(np.int64) if decisions.ndim == 1 else decisions.argmax(axis=1)
