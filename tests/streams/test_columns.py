"""Records as columns."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.columns import columns_of


@dataclass(frozen=True)
class Record:
    number: int

    def topic(self) -> str:
        return "events"

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 + self.number

    def key(self) -> bytes:
        return b"k%d" % self.number

    def value(self) -> bytes:
        return b"v%d" % self.number


@given(st.lists(st.integers(0, 20), min_size=1), st.integers(-1, 20))
def test_what_came_before_is_left_out(offsets: list[int], last: int) -> None:
    [columns] = columns_of([Record(offset) for offset in offsets])
    new, highest = [], last
    for offset in offsets:
        if offset > highest:
            new.append(offset)
        highest = max(highest, offset)
    found = columns.beyond(last)
    assert found.offsets.tolist() == new
    assert found.offsets.dtype == np.int64
    assert found.timestamps_ms.tolist() == [1000 + offset for offset in new]
    assert found.keys == [b"k%d" % offset for offset in new]
    assert found.values == [b"v%d" % offset for offset in new]
    assert found.messages == [Record(offset) for offset in new]
    assert found.place == ("events", 2)
    assert (found is columns) == (new == offsets)
