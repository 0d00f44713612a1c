"""Fetched records by partition, as columns: the shape in which everything here works on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.records import Header

Place = tuple[str, int]  # topic, partition


class Position(NamedTuple):
    """What a consumer group commits: the offset to read on from, and a text beside it."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Consecutive records of one partition.

    `offsets` and `timestamps_ms` are int64[N]; a record without a timestamp has -1.
    """

    place: Place
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    messages: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def beyond(self, offset: int) -> "Columns":
        """Those above an offset and above all records before them."""
        highest = np.maximum.accumulate(np.concatenate(([offset], self.offsets[:-1])))
        new = self.offsets > highest
        if new.all():
            return self
        rows = np.flatnonzero(new).tolist()
        return Columns(
            self.place,
            self.offsets[rows],
            self.timestamps_ms[rows],
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            [self.messages[row] for row in rows],
        )

    def times_by_offset(self) -> dict[int, int]:
        """The timestamp of each record, in milliseconds."""
        return dict(zip(self.offsets.tolist(), self.timestamps_ms.tolist(), strict=True))

    def headers(self, row: int) -> Sequence[Header]:
        """The headers of one record."""
        return self.messages[row].headers() or ()

    def header_texts(self, name: str) -> list[str]:
        """One header of every record, the last of several; empty where there is none."""
        return [
            (dict(message.headers() or ()).get(name) or b"").decode("utf-8", "replace")
            for message in self.messages
        ]


def columns_of(messages: Sequence[Any]) -> list[Columns]:
    """The records of each partition, partitions in the order of their first record.

    Args:
        messages: anything with the methods of a `confluent_kafka.Message`, and no errors.
    """
    groups: dict[Place, list[Any]] = {}
    for message in messages:
        groups.setdefault((message.topic(), message.partition()), []).append(message)
    return [
        Columns(
            place,
            np.array([message.offset() for message in group], dtype=np.int64),
            np.array([message.timestamp()[1] for message in group], dtype=np.int64),
            [message.key() for message in group],
            [message.value() for message in group],
            group,
        )
        for place, group in groups.items()
    ]
