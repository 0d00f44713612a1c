"""Records of the topic `escalations`: events again, for the models that are asked about few.

Value and key are the event's own. Its place and its timestamp are in headers, because the record
has others.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.columns import Columns
from streams.records import Header

Place = tuple[str, int]  # topic, partition

# `topic/partition/offset` of the event, as in its score, and its record's milliseconds since 1970.
SOURCE = "__ensemble.source"
TIMESTAMP = "__ensemble.timestamp"


def escalation_headers(place: Place, offset: int, timestamp_ms: int) -> list[Header]:
    """The headers for an event."""
    topic, partition = place
    return [
        (SOURCE, f"{topic}/{partition}/{offset}".encode()),
        (TIMESTAMP, str(timestamp_ms).encode()),
    ]


def origin_of(headers: Sequence[Header]) -> tuple[Place, int, int] | None:
    """Place, offset and timestamp of the event; None if the headers do not tell.

    >>> origin_of(escalation_headers(("events", 3), 526, 1000))
    (('events', 3), 526, 1000)
    >>> origin_of([("__ensemble.source", b"events")]) is None
    True
    """
    found = dict(headers)
    try:
        topic, partition, offset = (found[SOURCE] or b"").decode().split("/")
        origin = (topic, int(partition)), int(offset), int(found[TIMESTAMP] or b"")
    except (KeyError, ValueError):
        return None
    return origin if topic and origin[1] >= 0 else None


class Origins:
    """Where the events of fetched records really come from.

    Args:
        columns: records of one partition of `escalations`.

    Attributes:
        timestamps_ms: int64[N], of the events; where nobody knows those of the records.
        strange: how many records tell no place in a partition of this number.
    """

    def __init__(self, columns: Columns) -> None:
        self.timestamps_ms = columns.timestamps_ms.copy()
        self.strange = 0
        self._offsets = columns.offsets.copy()
        topics: list[str | None] = []
        for row in range(len(columns)):
            origin = origin_of(columns.headers(row))
            if origin is None or origin[0][1] != columns.place[1]:
                self.strange += 1
                topics.append(None)
                continue
            (topic, _), self._offsets[row], self.timestamps_ms[row] = origin
            topics.append(topic)
        self._topics = topics

    def groups(
        self, positions: NDArray[np.int64]
    ) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
        """By input topic: offsets of the events, and which of the given positions these are.

        Args:
            positions: int64[K], the records that hold an event.
        """
        topics = [self._topics[position] for position in positions.tolist()]
        for topic in dict.fromkeys(topics):
            if topic is not None:
                rows = np.array([row for row, each in enumerate(topics) if each == topic])
                yield topic, self._offsets[positions[rows]], rows
