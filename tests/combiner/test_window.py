"""The events that wait beside the join: blocks split and leave in step with their rows."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner.ahead import Runs
from combiner.answers import Cells
from combiner.limits import JoinConfig
from combiner.window import EventBlock, PartitionWindow, block_of, joined_blocks
from streams.columns import Columns
from streams.events import EventDecoder
from streams.features import Feature, FeatureSchema
from streams.headers import MAX_PASSED_BYTES, HeaderFilter
from tests.combiner.decision_kit import block

CONFIG = JoinConfig(1, deadline_ns=100, stall_ns=50, catch_up_limit_ns=1000)


def window(backlog_below: int = 0, *, in_order: bool = True) -> PartitionWindow:
    return PartitionWindow(replace(CONFIG, in_order=in_order), np.array([True]), backlog_below)


def answer(given_window: PartitionWindow, *offsets: int) -> None:
    cells = Cells(np.array(offsets), np.full(len(offsets), 0.5), 0)
    given_window.join.add_answers(0, cells, 0)


def left(given_window: PartitionWindow, now_ns: int = 0) -> list[tuple[list[int], list[str]]]:
    parts = given_window.settle(now_ns)
    for rows, events in parts:
        assert rows.offsets.tolist() == events.offsets.tolist()
        assert len(rows) == len(events)
    return [(events.offsets.tolist(), events.ids) for _, events in parts]


# -- blocks ----------------------------------------------------------------------------------


def test_some_events_of_a_block_have_their_own_places_for_bad_ones() -> None:
    whole = block(6, bad=[1, 4])
    some = whole.take(np.array([0, 2, 4]))
    assert some.offsets.tolist() == [40, 42, 44]
    assert some.ids == ["e40", "e42", ""]
    assert some.keys == [b"k40", b"k42", b"k44"]
    assert some.entities == ["entity40", "entity42", ""]
    assert some.bad == {2: whole.bad[4]}
    assert len(some.time_ms) == len(some.record_ms) == len(some) == 3


def test_a_part_of_a_block_has_its_own_places_for_bad_events() -> None:
    whole = block(6, bad=[1, 4])
    part = whole.take(np.arange(1, 5))
    assert part.offsets.tolist() == [41, 42, 43, 44]
    assert part.ids == ["", "e42", "e43", ""]
    assert part.keys == [b"k41", b"k42", b"k43", b"k44"]
    assert part.entities == ["", "entity42", "entity43", ""]
    assert sorted(part.bad) == [0, 3]
    assert len(part.time_ms) == len(part.record_ms) == len(part) == 4


def test_the_whole_of_a_block_is_the_block() -> None:
    whole = block(3)
    assert whole.take(np.arange(3)) is whole


class Message:
    """Has headers, as a message of the client."""

    def headers(self) -> list[tuple[str, bytes]]:
        return [("trace", b"1")]


DECODER = EventDecoder(FeatureSchema((Feature("x"),)), ("id",), ("who",), ("at",))


def columns(*values: bytes | None) -> Columns:
    """Records at offsets 7, 9, 11 …, of the milliseconds 1, 2, 3 …"""
    count = len(values)
    return Columns(
        ("events", 3),
        np.arange(7, 7 + 2 * count, 2),
        np.arange(1, 1 + count),
        [b"k%d" % place for place in range(count)],
        list(values),
        [Message() for _ in values],
    )


GOOD = b'{"id": "%s", "who": "w", "at": 1000, "x": 1}'


def test_a_block_of_good_events_takes_what_was_decoded() -> None:
    made = block_of(DECODER, columns(GOOD % b"a", GOOD % b"b"))
    assert (made.ids, made.entities, made.bad) == (["a", "b"], ["w", "w"], {})
    assert made.offsets.tolist() == [7, 9]
    assert made.keys == [b"k0", b"k1"]
    assert made.time_ms.tolist() == [1000, 1000]
    assert made.record_ms.tolist() == [1, 2]


def test_a_bad_event_keeps_its_place_and_the_time_of_its_record() -> None:
    given_columns = columns(GOOD % b"a", b"?", GOOD % b"c")
    made = block_of(DECODER, given_columns)
    assert made.ids == ["a", "", "c"]
    assert made.entities == ["w", "", "w"]
    assert made.time_ms.tolist() == [1000, 2, 1000]
    assert given_columns.timestamps_ms.tolist() == [1, 2, 3]
    assert list(made.bad) == [1]
    bad = made.bad[1]
    assert (bad.key, bad.value, bad.headers) == (b"k1", b"?", [("trace", b"1")])
    assert (bad.why.position, bad.why.error) == (1, "NotJson")


def test_a_block_may_hold_nothing_but_bad_events() -> None:
    made = block_of(DECODER, columns(None))
    assert (made.ids, made.entities, made.time_ms.tolist()) == ([""], [""], [1])
    assert made.bad[0].why.error == "Tombstone"


def test_without_an_id_an_event_is_named_by_its_place() -> None:
    nameless = EventDecoder(FeatureSchema((Feature("x"),)))
    assert block_of(nameless, columns(b'{"x": 1}', b'{"x": 2}')).ids == ["events/3/7", "events/3/9"]


# -- windows ---------------------------------------------------------------------------------


def test_a_block_leaves_in_parts_as_its_rows_settle() -> None:
    waiting = window()
    waiting.add(block(4, first=10), 0)
    assert left(waiting) == []
    answer(waiting, 10, 11, 13)
    assert left(waiting) == [([10, 11], ["e10", "e11"])]
    answer(waiting, 12)
    assert left(waiting) == [([12, 13], ["e12", "e13"])]
    assert left(waiting) == []


def test_what_leaves_together_is_in_order_whatever_the_blocks() -> None:
    waiting = window()
    waiting.add(block(2, first=10), 0)
    waiting.add(block(3, first=20), 0)
    answer(waiting, 10, 11, 20)
    assert [offsets for offsets, _ in left(waiting)] == [[10, 11, 20]]
    assert [offsets for offsets, _ in left(waiting, 100)] == [[21, 22]]


def test_bad_events_leave_in_their_place() -> None:
    waiting = window()
    waiting.add(block(3, first=10, bad=[0, 2]), 0)
    assert left(waiting) == [([10], [""])]
    answer(waiting, 11)
    assert left(waiting) == [([11, 12], ["e11", ""])]


def test_when_ready_events_leave_ahead_of_earlier_ones() -> None:
    waiting = window(in_order=False)
    waiting.add(block(2, first=10), 0)
    waiting.add(block(3, first=20, bad=[2]), 0)
    answer(waiting, 11, 20)
    assert left(waiting) == [([11, 20, 22], ["e11", "e20", ""])]
    assert waiting.settle(99) == []
    assert left(waiting, 100) == [([10, 21], ["e10", "e21"])]
    assert not waiting._blocks


def test_what_left_in_an_earlier_life_does_not_leave_again() -> None:
    waiting = window()
    waiting.join.skip(Runs(np.array([10, 21]), np.array([11, 22])))
    waiting.add(block(1, first=10, bad=[0]), 0)
    assert left(waiting) == []
    assert not waiting._blocks
    waiting.add(block(3, first=20, bad=[1]), 0)
    assert left(waiting, 100) == [([20, 22], ["e20", "e22"])]
    assert not waiting._blocks


def test_events_below_the_mark_are_backlog() -> None:
    waiting = window(backlog_below=12)
    waiting.add(block(3, first=11), 0)
    answer(waiting, 11)
    assert waiting.settle(0)[0][0].offsets.tolist() == [11]
    assert waiting.settle(99) == []
    assert waiting.settle(100)[0][0].offsets.tolist() == [12, 13]


def test_answers_that_waited_for_the_block_are_counted() -> None:
    waiting = window()
    answer(waiting, 10, 11)
    assert waiting.add(block(2, first=10), 0).filled == 2


blocks = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 2), st.sets(st.integers(0, 5), max_size=3)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, derandomize=True)
@given(blocks, st.randoms(use_true_random=False), st.booleans())
def test_events_and_rows_walk_in_step_whatever_the_blocks(
    shapes: list[tuple[int, int, set[int]]], random: Random, in_order: bool
) -> None:
    waiting = window(in_order=in_order)
    added: list[EventBlock] = []
    seen: list[tuple[int, str]] = []
    next_offset, now_ns = 0, 0
    for count, gap, bad in shapes:
        made = block(count, first=next_offset, bad=[place for place in bad if place < count])
        added.append(made)
        waiting.add(made, now_ns)
        next_offset += count + gap
        known = [int(offset) for one in added for offset in one.offsets]
        answer(waiting, *random.sample(known, random.randrange(1, len(known) + 1)))
        now_ns += random.randrange(60)
        for offsets, ids in left(waiting, now_ns):
            seen += list(zip(offsets, ids, strict=True))
    for offsets, ids in left(waiting, now_ns + 100):
        seen += list(zip(offsets, ids, strict=True))
    assert (seen if in_order else sorted(seen)) == [
        (int(offset), id_)
        for one in added
        for offset, id_ in zip(one.offsets, one.ids, strict=True)
    ]


def test_a_block_without_events_does_not_stop_those_behind_it() -> None:
    waiting = window()
    waiting.add(block(0, first=5), 0)
    waiting.add(block(1, first=10), 0)
    answer(waiting, 10)
    assert left(waiting) == [([10], ["e10"])]


@pytest.mark.parametrize("count", [1, 3])
def test_what_has_left_is_not_held_in_memory(count: int) -> None:
    waiting = window()
    for turn in range(100):
        waiting.add(block(count, first=turn * count), 0)
        answer(waiting, *range(turn * count, (turn + 1) * count))
        left(waiting)
    assert not waiting._blocks


# -- headers that go on ----------------------------------------------------------------------


def test_headers_walk_with_their_events() -> None:
    bad = b"{"
    given_columns = columns(GOOD % b"a", bad, GOOD % b"b", GOOD % b"c")
    assert block_of(DECODER, given_columns).headers == {}
    made = block_of(DECODER, given_columns, HeaderFilter(["trace"]))
    kept = [("trace", b"1")]
    assert made.headers == dict.fromkeys(range(4), kept)
    # The bad one has no score that they could go to.
    assert made.headers_of_good() == {0: kept, 1: kept, 2: kept}
    assert made.take(np.array([2, 3])).headers == {0: kept, 1: kept}
    assert made.take(np.array([0, 3])).headers == {0: kept, 1: kept}
    assert joined_blocks([block(2), made]).headers == dict.fromkeys(range(2, 6), kept)


def test_only_the_headers_asked_for_go_on_and_never_too_much() -> None:
    wanted = HeaderFilter(["traceparent", "ce_*"])
    given_headers = [("ce_id", b"1"), ("other", b"2"), ("traceparent", None), ("ce_id", b"3")]
    assert wanted(given_headers) == [("ce_id", b"1"), ("traceparent", None), ("ce_id", b"3")]
    assert wanted([("ce_id", bytes(MAX_PASSED_BYTES)), ("traceparent", b"1")]) == []
    assert not HeaderFilter([])
    assert HeaderFilter(["*"])(given_headers) == given_headers
