"""What is stored for an entity comes back whole, or not at all."""

import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache.latest import LatestScore, decode_latest, encode_latest
from streams.instants import WallMs

WHEN = st.integers(-(2**60), 2**60).map(WallMs)
SCORES = st.builds(
    LatestScore,
    ensemble=st.text(max_size=20),
    score=st.floats(allow_nan=False, allow_infinity=False),
    label=st.integers(0, 1),
    event_time_ms=WHEN,
    scored_at_ms=WHEN,
    event_id=st.text(max_size=20),
)
ONE = LatestScore("credit@1a2b", 0.25, 0, WallMs(1000), WallMs(2000), "e-1")


@given(SCORES)
def test_it_comes_back_whole(latest: LatestScore) -> None:
    assert decode_latest(encode_latest(latest)) == latest


def test_its_bytes_are_a_promise_to_running_systems() -> None:
    assert msgspec.msgpack.decode(encode_latest(ONE)) == [
        1, "credit@1a2b", 0.25, 0, 1000, 2000, "e-1",
    ]  # fmt: skip


def test_a_miss_stays_a_miss() -> None:
    assert decode_latest(None) is None


@given(st.binary(max_size=40))
@example(b"")
@example(b"\xa1\xff")
@example(msgspec.msgpack.encode([1, "e", 0.5, 1, 0]))
@example(msgspec.msgpack.encode([2, "e", 0.5, 1, 0, 0, ""]))
@example(msgspec.msgpack.encode([1, b"\xff", 0.5, 1, 0, 0, ""]))
@example(msgspec.msgpack.encode([1, "e", math.nan, 1, 0, 0, ""]))
@example(msgspec.msgpack.encode([1, "e", math.inf, 1, 0, 0, ""]))
@example(msgspec.msgpack.encode({"score": 0.5}))
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x91" * 100_000)
@example(b"\x97\x01\xa1\xff" + msgspec.msgpack.encode(0.5) + b"\x01\x00\x00\xa0")
def test_garbage_is_a_miss(value: bytes) -> None:
    assert decode_latest(value) is None


@given(st.integers(0, 30), st.integers(0, 255))
def test_a_damaged_value_is_a_miss_or_another_value_but_never_an_error(at: int, byte: int) -> None:
    value = bytearray(encode_latest(ONE))
    value[at % len(value)] = byte
    latest = decode_latest(bytes(value))
    assert latest is None or math.isfinite(latest.score)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_no_score_is_not_stored(score: float) -> None:
    with pytest.raises(AssertionError):
        encode_latest(LatestScore("e", score, 0, WallMs(0), WallMs(0)))


@pytest.mark.parametrize(("now_ms", "age_ms"), [(2000, 0), (2500, 500), (1000, 0)])
def test_age_is_never_negative(now_ms: int, age_ms: int) -> None:
    assert ONE.age_ms(WallMs(now_ms)) == age_ms
