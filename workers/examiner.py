"""Has one model score batches, leaving marks: suspects one by one, convicts not at all."""

import threading
from functools import partial

import numpy as np
from numpy.typing import NDArray

from workers.batching import MicroBatch
from workers.marks import Marks
from workers.protocol import Model
from workers.scoring import Ask, Effort, Scores, refused, score
from workers.suspicion import Call, Past, one_event, row_hashes, spans_of, suspected

CRASHED = "crashed its process"


class Examiner:
    """What stands between a lane and its model.

    Args:
        model: who scores.
        ask: makes one call of it, see `workers.scoring.score`.
        marks: where its calls are marked.
        past: what is known of it.
        alone: held during a trial; shared by all models of the process.
    """

    def __init__(
        self, model: Model, ask: Ask, marks: Marks, past: Past, alone: threading.Lock
    ) -> None:
        self._name = model.name
        self._columns = model.columns
        self._score = partial(
            score, ask, minimum=model.minimum, maximum=model.maximum, columns=model.columns
        )
        self._effort = Effort()
        self._marks = marks
        self._suspects = past.suspects
        self._convicts = np.array(past.convicts, dtype=np.uint64)
        self._alone = alone

    def score(self, batch: MicroBatch) -> Scores:
        """The answers to a batch."""
        if not (self._suspects or len(self._convicts)):
            return self._together(batch, batch.matrix)
        convicted = np.isin(self._hashes(batch.matrix), self._convicts)
        on_trial = suspected(self._suspects, batch) & ~convicted
        rest = np.flatnonzero(~(convicted | on_trial))
        found = refused(len(batch), CRASHED, self._columns)
        if len(rest):
            _take(found, rest, self._together(batch, batch.matrix[rest]))
        for row in np.flatnonzero(on_trial).tolist():
            _take(found, np.array([row]), self._tried(batch, row))
        return found

    def _hashes(self, matrix: NDArray[np.float64]) -> NDArray[np.uint64]:
        return row_hashes(matrix) if len(self._convicts) else np.zeros(len(matrix), np.uint64)

    def _together(self, batch: MicroBatch, matrix: NDArray[np.float64]) -> Scores:
        self._marks.begin(Call(self._name, "scoring", spans_of(batch)))
        scores = self._finished(self._score(matrix, most_calls=self._effort.calls))
        self._effort.heed(scores)
        return scores

    def _tried(self, batch: MicroBatch, row: int) -> Scores:
        matrix = batch.matrix[row : row + 1]
        event, identity = one_event(batch, row), int(row_hashes(matrix)[0])
        with self._alone:
            self._marks.begin(Call(self._name, "trial", (event,), identity))
            return self._finished(self._score(matrix))

    def _finished(self, scores: Scores) -> Scores:
        self._marks.end(len(scores.values) - len(scores.refusals))
        return scores


def _take(found: Scores, rows: NDArray[np.int64], scores: Scores) -> None:
    """Put the answers to some rows in their places."""
    found.values[rows] = scores.values
    for at, row in enumerate(rows.tolist()):
        reason = scores.refusals.get(at)
        if reason is None:
            found.refusals.pop(row, None)
        else:
            found.refusals[row] = reason
