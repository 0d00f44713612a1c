"""What was decided live, by event: who had answered, and what was said of those who had not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache.latest import NO_LABEL, Latest, LatestClasses, LatestScore
from streams.instants import WallMs
from streams.records import ScoredRecord


class Recorded:
    """The scored records of one stretch of an input partition.

    Args:
        first: offset of the stretch's first event.
        count: offsets in the stretch.
        members: bool[M], which columns are members and not reserves.
        models: M names.

    Attributes:
        known: bool[N], of which events a score was published.
    """

    def __init__(
        self, first: int, count: int, members: NDArray[np.bool_], models: Sequence[str]
    ) -> None:
        self.first = first
        self._columns = {model: column for column, model in enumerate(models)}
        self._records: list[ScoredRecord | None] = [None] * count
        self.known = np.zeros(count, dtype=np.bool_)
        # Members had answered unless the record says otherwise, reserves only where they were used.
        self._present: NDArray[np.bool_] = np.tile(members, (count, 1))

    def add(self, offset: int, record: ScoredRecord) -> None:
        """Take in the record of one event of the stretch; the first one counts."""
        row = offset - self.first
        if self.known[row]:
            return
        self.known[row] = True
        self._records[row] = record
        for model in (*record.missing, *record.not_asked):
            if model in self._columns:
                self._present[row, self._columns[model]] = False
        for model in record.models:
            if model in self._columns:
                self._present[row, self._columns[model]] = True

    def present(self) -> NDArray[np.bool_]:
        """bool[N, M]: whose answers were there; of an event without a record, everybody's."""
        return self._present | ~self.known[:, None]

    def record(self, offset: int) -> ScoredRecord | None:
        """The record of an event."""
        return self._records[offset - self.first]

    def asked(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some events about which a cascade's heavy models were asked."""
        records = (self.record(offset) for offset in offsets.tolist())
        asked = [record is not None and not record.not_asked for record in records]
        return offsets[np.array(asked, dtype=np.bool_)]

    def cached(self, offset: int) -> Latest | None:
        """The score that the cache gave for an event, as of the instant 0."""
        record = self.record(offset)
        if record is None or record.cached_age_ms is None:
            return None
        at_ms = WallMs(-record.cached_age_ms)
        ensemble, label = record.ensemble, record.label
        if isinstance(label, str):
            return LatestClasses(ensemble, record.scores or {}, label, at_ms, at_ms, record.id)
        place = NO_LABEL if label is None else label
        return LatestScore(ensemble, record.score, place, at_ms, at_ms, record.id)
