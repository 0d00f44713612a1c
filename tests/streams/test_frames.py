"""Frames: what goes in comes out, in both forms, and no bytes do any harm."""

import contextlib
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streams.frames import (
    MAX_EVENTS,
    MAX_REASON_CHARS,
    FrameError,
    PredictionFrame,
    Timing,
    decode_frames,
    encode_frame,
    encode_frames,
)

OFFSETS = hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 2**62), unique=True)
SCORE = st.floats(allow_infinity=False)


@st.composite
def frames(draw):
    offsets = draw(OFFSETS)
    columns = draw(st.integers(1, 3))
    shape = (len(offsets),) if columns == 1 else (len(offsets), columns)
    scores = draw(hnp.arrays(np.float64, shape, elements=SCORE))
    refusals = draw(st.dictionaries(st.integers(0, len(offsets) - 1), st.text(max_size=30)))
    return PredictionFrame(
        draw(st.text(max_size=10)),
        draw(st.text(max_size=10)),
        draw(st.text(max_size=10)),
        draw(st.integers(0, 10_000)),
        offsets,
        scores,
        refusals,
        Timing(draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6))),
    )


def only(value):
    (frame,) = decode_frames(value)
    return frame


def assert_same(one, other):
    for name in ("model", "version", "topic", "partition", "refusals", "timing"):
        assert getattr(one, name) == getattr(other, name)
    assert np.array_equal(one.offsets, other.offsets)
    assert one.offsets.dtype == np.int64
    assert one.scores.shape == other.scores.shape
    assert np.array_equal(one.scores, other.scores, equal_nan=True)


@given(frames())
def test_the_binary_form_keeps_everything(frame):
    assert_same(only(encode_frame(frame)), frame)


@st.composite
def shared_frames(draw):
    first = draw(frames())
    count = len(first.offsets)
    others = draw(st.lists(st.tuples(st.text(max_size=10), st.text(max_size=10)), max_size=4))
    return [
        first,
        *(
            PredictionFrame(
                model,
                version,
                first.topic,
                first.partition,
                first.offsets,
                draw(hnp.arrays(np.float64, count, elements=SCORE)),
                draw(st.dictionaries(st.integers(0, count - 1), st.text(max_size=30))),
                Timing(draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6))),
            )
            for model, version in others
        ),
    ]


@given(shared_frames())
def test_models_that_share_a_record_keep_everything(shared):
    decoded = decode_frames(encode_frames(shared))
    assert len(decoded) == len(shared)
    for one, other in zip(decoded, shared, strict=True):
        assert_same(one, other)


def test_models_that_share_a_record_share_its_events():
    offsets, scores = np.arange(100), np.zeros(100)
    shared = [PredictionFrame(model, "1", "t", 0, offsets, scores) for model in "abcde"]
    assert len(encode_frames(shared)) < 8 * 100 * 6 + 200


@given(frames())
def test_the_json_form_means_the_same(frame):
    scores = np.where(np.isnan(frame.scores), None, frame.scores.astype(object)).tolist()
    value = json.dumps(
        {
            "model": frame.model,
            "version": frame.version,
            "topic": frame.topic,
            "partition": frame.partition,
            "offsets": frame.offsets.tolist(),
            "scores": scores,
            "refusals": {str(place): reason for place, reason in frame.refusals.items()},
            "queue_ms": frame.timing.queue_ms,
            "model_ms": frame.timing.model_ms,
        }
    )
    assert_same(only(b" \n" + value.encode()), frame)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_frame_error(value):
    for prefix in (b"", b"{", b"\x9a\x01", b"\x95\x02"):
        with contextlib.suppress(FrameError):
            decode_frames(prefix + value)


@given(frames(), st.data())
def test_a_damaged_frame_is_a_frame_or_a_frame_error(frame, data):
    value = bytearray(encode_frame(frame))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    try:
        (decoded,) = decode_frames(bytes(value))
    except FrameError:
        return
    assert len(decoded.scores) == len(decoded.offsets)


def example(**changes):
    frame = {"model": "m", "topic": "t", "partition": 0, "offsets": [1, 2], "scores": [0.5, None]}
    return json.dumps(frame | changes).encode()


def binary(**changes):
    one = np.array([7], "<i8").tobytes()
    fields = {
        "format": 1, "model": "m", "version": "1", "topic": "t", "partition": 0, "offsets": one,
        "scores": np.array([0.5]).tobytes(), "columns": 1, "refusals": {}, "timing": [0.0, 0.0],
    }  # fmt: skip
    return msgspec.msgpack.encode(list((fields | changes).values()))


HALF = np.array([0.5]).tobytes()


def shared(**changes):
    one = np.array([7], "<i8").tobytes()
    fields = {"format": 2, "topic": "t", "partition": 0, "offsets": one, "answers": []}
    return msgspec.msgpack.encode(list((fields | changes).values()))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "the value is empty"),
        (b"", "the value is empty"),
        (b"{", "truncated"),
        (b"\xff", "Expected"),
        (example(offsets=[]), "0 events; expected 1 to 20000"),
        (example(offsets=[1]), "1 offsets but 2 scores"),
        (example(offsets=[-1, 2]), "an offset is negative"),
        (example(offsets=[1, 2**70]), "numbers do not fit"),
        (example(offsets=[1, 1.5]), "Expected `int`"),
        (example(scores=[0.5, "high"]), "Expected"),
        (example(scores=[[0.5], [0.1, 0.2]]), "numbers do not fit"),
        (example(scores=[0.5, [0.1]]), "numbers do not fit"),
        (example(refusals={"2": "no"}), "outside the frame"),
        (example(refusals={"x": "no"}), "Expected"),
        (
            example(offsets=list(range(MAX_EVENTS + 1)), scores=[0.0] * (MAX_EVENTS + 1)),
            "20001 events",
        ),
        (binary(format=2), "format 2; this process reads format 1"),
        (binary(columns=0), "0 columns"),
        (binary(columns=3), "numbers do not fit"),
        (binary(scores=b"1234567"), "numbers do not fit"),
        (binary(offsets=b"", scores=b""), "0 events"),
        (shared(answers=[]), "no model answers in it"),
        (shared(offsets=b"", answers=[["m", "1", b"", 1, {}, [0.0, 0.0]]]), "0 events"),
        (shared(answers=[["m", "1", b"", 1, {}, [0.0, 0.0]]]), "1 offsets but 0 scores"),
        (shared(answers=[["m", "1", HALF, 0, {}, [0.0, 0.0]]]), "0 columns"),
        (shared(answers=[["m", "1", HALF, 1, {1: "no"}, [0.0, 0.0]]]), "outside the frame"),
        (shared(answers=[["m", "1"]]), "Expected `array` of"),
    ],
)
def test_what_is_wrong_is_said(value, problem):
    with pytest.raises(FrameError, match=problem):
        decode_frames(value)


def test_the_smallest_json_frame_is_enough():
    frame = only(example())
    assert frame.version == ""
    assert frame.scores[0] == 0.5
    assert np.isnan(frame.scores[1])
    assert frame.refusals == {}


def test_reasons_are_cut():
    long = "x" * 1000
    frame = PredictionFrame("m", "1", "t", 0, np.array([1]), np.array([np.nan]), {0: long})
    assert len(only(encode_frame(frame)).refusals[0]) == MAX_REASON_CHARS
    assert len(only(example(refusals={"1": long})).refusals[1]) == MAX_REASON_CHARS


def test_an_event_costs_sixteen_bytes():
    count = 2000
    frame = PredictionFrame("forest", "1", "t", 0, np.arange(count), np.zeros(count))
    assert len(encode_frame(frame)) < 16 * count + 100
