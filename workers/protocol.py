"""What a model is to this product."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class UnavailableError(Exception):
    """A model cannot be asked at present, whatever the rows are; the message is the reason.

    Raised by `predict`, it refuses the whole call, and nobody asks again row by row.
    """


class Model(Protocol):
    """Anything that turns a batch of feature rows into one answer per row.

    `predict` gets float64[N, F] (NaN is missing, never written to) and returns N scores, float64[N]
    or anything that numpy makes such an array of; with several `columns` a row of as many
    probabilities for each, float64[N, K]. It may raise; it is called from one thread at a
    time. `minimum` and `maximum` are the range its scores must lie in; None is no limit.
    """

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever its answers may."""
        ...

    @property
    def minimum(self) -> float | None:
        """The least score that counts."""
        ...

    @property
    def maximum(self) -> float | None:
        """The greatest score that counts."""
        ...

    @property
    def columns(self) -> int:
        """How many numbers an answer has: 1, or for multi-class one for each class."""
        ...

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the rows."""
        ...
