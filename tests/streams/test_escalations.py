"""Escalated events and where they really come from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from streams.columns import columns_of
from streams.escalations import SOURCE, TIMESTAMP, Origins, escalation_headers, origin_of


@dataclass
class Message:
    number: int
    headers_: Any

    def topic(self) -> str:
        return "escalations"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return b"{}"

    def headers(self) -> Any:
        return self.headers_


def test_events_are_told_by_their_topic_and_strangers_left_out() -> None:
    messages = [
        Message(0, escalation_headers(("events", 3), 17, 10)),
        Message(1, escalation_headers(("orders", 3), 5, 20)),
        Message(2, None),
        Message(3, escalation_headers(("events", 2), 19, 30)),
        Message(4, escalation_headers(("events", 3), 12, 40)),
        Message(5, escalation_headers(("events", 3), 13, 50)),
    ]
    [columns] = columns_of(messages)
    origins = Origins(columns)
    assert origins.strange == 2
    assert origins.timestamps_ms.tolist() == [10, 20, 1000, 1000, 40, 50]
    # The last event cannot be decoded, say.
    found = [
        (topic, offsets.tolist(), rows.tolist())
        for topic, offsets, rows in origins.groups(np.array([0, 1, 2, 3, 4]))
    ]
    assert found == [("events", [17, 12], [0, 4]), ("orders", [5], [1])]


@pytest.mark.parametrize(
    ("source", "timestamp"),
    [
        (b"events/3", b"1"),
        (b"events/3/x", b"1"),
        (b"events/3/-1", b"1"),
        (b"/3/1", b"1"),
        (b"events/3/1", b"soon"),
        (b"\xff/3/1", b"1"),
        (None, b"1"),
    ],
)
def test_headers_that_tell_no_place(source: bytes | None, timestamp: bytes) -> None:
    assert origin_of([(SOURCE, source), (TIMESTAMP, timestamp)]) is None
