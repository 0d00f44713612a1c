"""What leaves the combiner's core: outcomes and corrections, by partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.latest import Latest, LatestClasses, LatestScore
from combiner.decision import Decisions
from combiner.fallback import CACHED
from combiner.outcome import Outcome
from combiner.window import BadRecord, EventBlock
from streams.instants import WallMs
from streams.records import Header

Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class Output:
    """What leaves one input partition, in input order as far as it leaves together.

    Attributes:
        place: input topic and partition.
        scored: key and value of each scored record.
        dead: the events that could not be scored, by offset.
        latest: entity and score, for the cache.
        fallbacks: int64 counts by rung.
        missed: int64[M], events scored without each model that was awaited.
        latency_ms: float64[N], from the records' timestamps.
        waited_ms: float64[N], from the combiner's first sight.
        headers: those that scored records carry on, by place in `scored`.
        corrections: key and value of what late answers would have changed.
    """

    place: Place
    scored: list[tuple[bytes | None, bytes]]
    dead: list[tuple[int, BadRecord]]
    latest: list[tuple[str, Latest]]
    fallbacks: NDArray[np.int64]
    missed: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    waited_ms: NDArray[np.float64]
    headers: Mapping[int, Sequence[Header]] = field(default_factory=dict)
    corrections: Sequence[tuple[bytes | None, bytes]] = ()

    @classmethod
    def of_corrections(
        cls, place: Place, members: int, records: Sequence[tuple[bytes | None, bytes]]
    ) -> "Output":
        """Corrections alone."""
        none, no_time = np.zeros(CACHED + 2, dtype=np.int64), np.empty(0)
        missed = np.zeros(members, dtype=np.int64)
        return cls(place, [], [], [], none, missed, no_time, no_time, corrections=records)

    def __len__(self) -> int:
        return len(self.scored) + len(self.dead)


def newest_of(
    block: EventBlock, decisions: Decisions, outcome: Outcome, ensemble: str, now_ms: WallMs
) -> list[Latest | None]:
    """What the cache should remember of N events; a cached score or a prior is no news."""
    fresh = decisions.rungs < CACHED
    fresh[list(block.bad)] = False
    kept = zip(
        fresh.tolist(),
        decisions.scores.tolist(),
        decisions.labels.tolist(),
        block.time_ms.tolist(),
        block.ids,
        strict=True,
    )
    if outcome.columns == 1:
        return [
            LatestScore(ensemble, row[0], label, WallMs(time_ms), now_ms, id_) if new else None
            for new, row, label, time_ms, id_ in kept
        ]
    classes = outcome.classes
    return [
        LatestClasses(ensemble, outcome.by_class(row), classes[label], WallMs(time_ms), now_ms, id_)
        if new
        else None
        for new, row, label, time_ms, id_ in kept
    ]
