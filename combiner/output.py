"""What leaves the combiner's core: outcomes and corrections, by partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.latest import Latest
from combiner.fallback import CACHED
from combiner.window import BadRecord
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
