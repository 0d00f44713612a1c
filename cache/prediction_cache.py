"""A model that remembers: equal feature rows are computed once."""

import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cache.keys import prediction_keys, unique_rows
from cache.protocol import ScoreCache
from streams.errors import CacheError, ModelError

_SCORE = np.dtype("<f8")


class BatchModel(Protocol):
    """What can be given a memory: any model of the workers."""

    @property
    def name(self) -> str:
        """Which model."""
        ...

    @property
    def version(self) -> str:
        """Which version of it; another version never gets this one's answers."""
        ...

    @property
    def minimum(self) -> float | None:
        """The least score it may give; None is no limit."""
        ...

    @property
    def maximum(self) -> float | None:
        """The greatest score it may give; None is no limit."""
        ...

    @property
    def columns(self) -> int:
        """How many numbers an answer has."""
        ...

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[N] for float64[N, F], or float64[N, K] with K columns."""
        ...


class CachedModel:
    """A `BatchModel` in front of another one, whose answers depend on nothing but the row.

    A batch is looked up at once, the distinct rows that are missing are computed in one call,
    and what is finite of the answer is stored for `ttl_s` seconds. One batch at a time: rows
    that arrive while they are being computed wait, and are found. So with a cache that keeps
    what it is given, a burst of equal rows costs one row of work.
    """

    def __init__(self, model: BatchModel, cache: ScoreCache, *, ttl_s: int) -> None:
        assert ttl_s >= 1, ttl_s
        self._model = model
        self._cache = cache
        self._ttl_s = ttl_s
        self._one_batch = threading.Lock()

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self._model.version

    @property
    def minimum(self) -> float | None:
        """The model's least score."""
        return self._model.minimum

    @property
    def maximum(self) -> float | None:
        """The model's greatest score."""
        return self._model.maximum

    @property
    def columns(self) -> int:
        """How many numbers an answer of the model has."""
        return self._model.columns

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores float64[N] of the rows float64[N, F]; a failing cache costs only computing.

        With several columns they are float64[N, K], and remembered as a whole.

        Raises ModelError when the model does not answer so many numbers per row, and whatever the
        model raises; nothing is stored then.
        """
        keys = prediction_keys(self.name, self.version, matrix)
        first_index, inverse = unique_rows(keys)
        unique_keys = [keys[at] for at in first_index.tolist()]
        with self._one_batch:
            scores = self._remembered(unique_keys)
            missing = np.flatnonzero(np.isnan(scores[:, 0]))
            if missing.size:
                answers = self._computed(matrix[first_index[missing]])
                scores[missing] = answers
                self._remember([unique_keys[at] for at in missing.tolist()], answers)
        return scores[inverse, 0] if self.columns == 1 else scores[inverse]

    def _remembered(self, keys: list[bytes]) -> NDArray[np.float64]:
        """float64[U, K], NaN where there is no score; whatever is not K finite float64 is none."""
        columns = self.columns
        try:
            values = self._cache.get_many(keys)
        except CacheError:
            return np.full((len(keys), columns), np.nan)
        nothing = np.full(columns, np.nan, _SCORE).tobytes()
        content = b"".join(
            value if value is not None and len(value) == len(nothing) else nothing
            for value in values
        )
        scores = np.frombuffer(content, _SCORE).astype(np.float64).reshape(-1, columns)
        scores[~np.isfinite(scores).all(axis=1)] = np.nan
        return scores

    def _computed(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[N, K]."""
        answer = self._model.predict(rows)
        try:
            scores = np.asarray(answer, np.float64)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{self.name}: its answer is not an array of numbers") from error
        columns = self.columns
        if scores.shape != ((len(rows),) if columns == 1 else (len(rows), columns)):
            raise ModelError(f"{self.name}: {len(rows)} rows, but an answer of {scores.shape}")
        return scores.reshape(-1, columns)

    def _remember(self, keys: list[bytes], scores: NDArray[np.float64]) -> None:
        width = self.columns * _SCORE.itemsize
        content = scores.astype(_SCORE).tobytes()
        items = [
            (keys[at], content[at * width : at * width + width])
            for at in np.flatnonzero(np.isfinite(scores).all(axis=1)).tolist()
        ]
        try:
            self._cache.set_many(items, self._ttl_s)
        except CacheError:
            return
