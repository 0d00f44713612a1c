"""Dead letters read back, bounds as people write them, and what is remembered as done."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from replay.bounds import Bound, bound_of, time_of
from replay.done import MAX_TEXT, Done
from replay.letters import Letter, headers_again, letter_of, verdict_of
from streams.events import BadEvent
from streams.instants import WallMs
from streams.records import Header, Headers, dead_letter_headers

BAD = BadEvent(0, "WrongType", "x is a text")
NOW = WallMs(1_700_000_000_000)


def letter(headers: Sequence[Header]) -> Letter | None:
    return letter_of(
        Message(
            topic="dead-letters", partition=1, offset=7, key=b"k", value=b"v",
            headers=list(headers), timestamp=(1, 1234),
        )
    )  # fmt: skip


def written(original: Sequence[Header]) -> list[Header]:
    return dead_letter_headers(original, "events", 3, 42, BAD, "e@1")


def test_what_the_combiner_writes_is_read_back() -> None:
    original = [("trace", b"1"), ("trace", b"2"), ("empty", None)]
    found = letter(written(original))
    assert found == Letter(
        (1, 7), 1234, ("events", 3), 42, "WrongType", "x is a text", "e@1", 0, None, b"k", b"v",
        original,
    )  # fmt: skip
    assert found.id == "events/3/42"


def test_attempts_are_counted_on_through_any_number_of_failures() -> None:
    headers: list[Header] = [("trace", b"1")]
    for attempt in range(5):
        found = letter(written(headers))
        assert found is not None
        assert found.attempts == attempt
        assert found.headers == [("trace", b"1")]
        headers = headers_again(found)
        assert headers == [("trace", b"1"), (Headers.ATTEMPTS, b"%d" % (attempt + 1))]


@pytest.mark.parametrize("rubbish", [None, b"", b"x", b"-3", b"1e9", "²".encode(), b"9" * 30])
def test_attempts_that_are_no_number_were_not_counted(rubbish: bytes | None) -> None:
    found = letter(written([(Headers.ATTEMPTS, rubbish)]))
    assert found is not None
    assert found.attempts == 0


def test_a_record_that_is_no_dead_letter_is_none() -> None:
    assert letter([]) is None
    assert letter([(Headers.TOPIC, b"events"), (Headers.PARTITION, b"0")]) is None
    assert (
        letter([(Headers.TOPIC, b"e"), (Headers.PARTITION, b"x"), (Headers.OFFSET, b"1")]) is None
    )


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())))
def test_any_headers_are_a_letter_or_none(headers: list[Header]) -> None:
    letter([*headers, *written(headers)])
    letter(headers)


def test_what_becomes_of_a_letter() -> None:
    found = letter(written([]))
    assert found is not None
    assert verdict_of(found, {"events": 4}, 3) == "sent"
    assert verdict_of(found, {"events": 3}, 3) == "no input"
    assert verdict_of(found, {"others": 4}, 3) == "no input"
    assert verdict_of(replace(found, attempts=2), {"events": 4}, 3) == "sent"
    assert verdict_of(replace(found, attempts=3), {"events": 4}, 3) == "given up"
    assert verdict_of(replace(found, cut_from=10), {"events": 4}, 3) == "cut"


# -- bounds ----------------------------------------------------------------------------------


def test_bounds() -> None:
    assert bound_of("beginning", NOW) == Bound()
    assert bound_of("end", NOW) == Bound(at_end=True)
    assert bound_of("1970-01-01T00:00:01", NOW).time_ms == 1000
    assert bound_of("-2h", NOW).time_ms == NOW - 7_200_000
    found = bound_of("0:5, clicks/1:6", NOW)
    assert [found.offset_of(*p) for p in (("a", 0), ("clicks", 1), ("a", 1))] == [5, 6, None]


@pytest.mark.parametrize("text", ["", "soon", "0:", "0:1,", "0:-1", "-5", "-5y", "9999-99-99"])
def test_what_is_no_bound_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="expected beginning, end"):
        bound_of(text, NOW)


@given(st.integers(0, 10**6))
def test_a_time_ago(seconds: int) -> None:
    assert time_of(f"-{seconds}s", NOW) == NOW - 1000 * seconds


# -- what is done ----------------------------------------------------------------------------

Parts = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20)


@given(st.integers(0, 20), Parts)
def test_done_offsets_are_a_set(low: int, parts: list[tuple[int, int]]) -> None:
    done, expected = Done(low), set(range(low))
    for start, length in parts:
        done.add(start, start + length)
        expected |= set(range(start, start + length))
        # What touches the low mark moves it.
        assert all((offset in done) == (offset in expected) for offset in range(100))
        assert done.low not in expected
        ranges = list(done.ranges())
        assert all(stop < start for (_, stop), (start, _) in pairwise(ranges))
        again = Done.read(done.low, done.text())
        assert (again.low, list(again.ranges())) == (done.low, ranges)


@given(st.integers(0, 50), Parts, st.integers(0, 90))
def test_what_is_gone_is_not_open(low: int, parts: list[tuple[int, int]], below: int) -> None:
    done = Done(low)
    for start, length in parts:
        done.add(start, start + length)
    before = [offset in done for offset in range(120)]
    done.forget_below(below)
    assert [offset in done for offset in range(120)] == [
        was or offset < below for offset, was in enumerate(before)
    ]


@given(st.integers(0, 10**12), st.text())
def test_any_text_beside_an_offset_is_read(offset: int, text: str) -> None:
    assert Done.read(offset, text).low >= offset
    assert Done.read(offset, "1:" + text).low >= offset
    assert Done.read(offset, "2:" + text).low >= offset


def test_nothing_to_say_is_no_text() -> None:
    assert Done.read(7, None).text() == ""
    assert Done.read(7, "3:1,1").text() == ""


@given(st.integers(), st.floats(0, 1))
def test_ten_thousand_letters_in_any_pattern_fit(seed: int, share: float) -> None:
    done, random = Done(0), Random(seed)
    for offset in range(10_000):
        if random.random() < share:
            done.add(offset, offset + 1)
    text = done.text()
    assert len(text) <= MAX_TEXT
    assert list(Done.read(done.low, text).ranges()) == list(done.ranges())
