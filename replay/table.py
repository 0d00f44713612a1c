"""The first answer of each model to each event of a stretch, as the combiner would take it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from combiner.intake import Member, problem_of
from streams.frames import PredictionFrame

Place = tuple[str, int]  # topic, partition


class AnswerTable:
    """Answers of M models to the events of a stretch of one input partition.

    Args:
        place: the input partition.
        first: offset of the first event.
        count: offsets in the stretch.
        members: the columns.

    Attributes:
        answered: bool[N, M], whether there is an answer; a refusal is one.
        scores: float64[N, M], or [N, M, K] of several classes; NaN is a refusal.
        unusable: frames for this place that do not count.
    """

    def __init__(self, place: Place, first: int, count: int, members: Sequence[Member]) -> None:
        self._place = place
        self._first = first
        self._members = members
        self._columns = {member.name: column for column, member in enumerate(members)}
        self._reasons: dict[tuple[int, int], str] = {}
        self.answered: NDArray[np.bool_] = np.zeros((count, len(members)), dtype=np.bool_)
        columns = members[0].columns
        shape = (count, len(members)) if columns == 1 else (count, len(members), columns)
        self.scores: NDArray[np.float64] = np.full(shape, np.nan)
        self.unusable = 0

    def add(self, partition: int, frame: PredictionFrame) -> None:
        """Take in the next frame of a `predictions` partition."""
        if frame.topic != self._place[0] or partition != self._place[1]:
            return
        column = self._columns.get(frame.model)
        member = None if column is None else self._members[column]
        if column is None or problem_of(frame, partition, member):
            self.unusable += 1
            return
        rows = frame.offsets - self._first
        inside = np.flatnonzero((rows >= 0) & (rows < len(self.answered)))
        inside = inside[~self.answered[rows[inside], column]]
        # The same event twice in one frame: the first answer holds.
        rows, once = np.unique(rows[inside], return_index=True)
        places = inside[once]
        self.answered[rows, column] = True
        self.scores[rows, column] = frame.scores[places]
        if frame.refusals:
            for row, place in zip(rows.tolist(), places.tolist(), strict=True):
                if place in frame.refusals:
                    self._reasons[row, column] = frame.refusals[place]

    def put(
        self,
        column: int,
        offsets: NDArray[np.int64],
        scores: NDArray[np.float64],
        reasons: Mapping[int, str],
    ) -> None:
        """Give a model's answers to some events, whatever was there before."""
        rows = offsets - self._first
        self.answered[rows, column] = True
        self.scores[rows, column] = scores
        self._reasons |= {(int(rows[place]), column): why for place, why in reasons.items()}

    def frames(
        self, offsets: NDArray[np.int64], present: NDArray[np.bool_] | None
    ) -> list[PredictionFrame]:
        """The answers to some events, one frame for each model that has any.

        Args:
            offsets: int64[K], events of the stretch.
            present: bool[N, M], whose answers are wanted for which event; None is all.
        """
        wanted = self.answered if present is None else self.answered & present
        found = []
        for column, member in enumerate(self._members):
            rows = offsets - self._first
            rows = rows[wanted[rows, column]]
            if not len(rows):
                continue
            reasons = {
                place: self._reasons[row, column]
                for place, row in enumerate(rows.tolist())
                if (row, column) in self._reasons
            }
            found.append(
                PredictionFrame(
                    member.name, member.version, *self._place, rows + self._first,
                    self.scores[rows, column], reasons,
                )
            )  # fmt: skip
        return found

    def lacking(self, offsets: NDArray[np.int64], present: NDArray[np.bool_]) -> NDArray[np.int64]:
        """int64[M]: answers that were there and are not found any more."""
        rows = offsets - self._first
        missing: NDArray[np.int64] = (present[rows] & ~self.answered[rows]).sum(axis=0)
        return missing
