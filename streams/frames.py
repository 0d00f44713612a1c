"""Predictions on the wire: one record, many events, one model or several.

Between our own processes a frame is a msgpack array whose number columns are raw little-endian
bytes, so that reading one costs the same for one event and for a thousand. Models that answered
the same events share a record, and in it the events. Anybody else writes the content of a frame
as JSON:

    {"model": "rules", "version": "7", "topic": "events", "partition": 2,
     "offsets": [1201, 1202, 1203], "scores": [0.91, null, 0.02],
     "refusals": {"1": "amount is negative"}}

A score that is null (NaN in the binary form) is a refusal; its reason, if given, stands under its
position in the frame. The first bytes tell the forms apart.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1
# Several models about the same events.
SHARED_FORMAT_VERSION = 2
# A refusal's reason goes into the scored record of each event it concerns.
MAX_REASON_CHARS = 200
# What one record may carry: 16 bytes an event keep it far below the broker's 1 MB default.
MAX_EVENTS = 20_000
UNSTATED_REASON = "no reason given"
# By how much the probabilities of all classes may miss 1: float32 and rounding to three decimals
# stay below it, answers that are no probabilities do not.
SHARES_TOLERANCE = 0.01

_OFFSETS = np.dtype("<i8")
_SCORES = np.dtype("<f8")


class FrameError(ValueError):
    """The bytes of a predictions record are no frame; the message says what is wrong."""


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """Where a frame's time went, in milliseconds: waiting for the model, and inside it."""

    queue_ms: float = 0.0
    model_ms: float = 0.0


class PredictionFrame(msgspec.Struct, frozen=True):
    """One model's answers for events of one partition.

    Attributes:
        model: the model's name, as configured.
        version: the model's version (content hash for models of a bundle).
        topic: the input topic.
        partition: the input partition; the frame is written to the same partition number.
        offsets: int64[N], the events, each at most once.
        scores: float64[N] or float64[N, K] for K classes; NaN marks a refusal.
        refusals: reason by position in the frame.
        timing: where the time went.
    """

    model: str
    version: str
    topic: str
    partition: int
    offsets: NDArray[np.int64]
    scores: NDArray[np.float64]
    refusals: dict[int, str] = {}
    timing: Timing = Timing()


class _Binary(msgspec.Struct, frozen=True, array_like=True):
    format: int
    model: str
    version: str
    topic: str
    partition: int
    offsets: bytes
    scores: bytes
    columns: int
    refusals: dict[int, str]
    timing: Timing


class _Answers(msgspec.Struct, frozen=True, array_like=True):
    """One model's part in a record that several share."""

    model: str
    version: str
    scores: bytes
    columns: int
    refusals: dict[int, str]
    timing: Timing


class _Shared(msgspec.Struct, frozen=True, array_like=True):
    format: int
    topic: str
    partition: int
    offsets: bytes
    answers: list[_Answers]


class _Json(msgspec.Struct, frozen=True):
    model: str
    topic: str
    partition: int
    offsets: list[int]
    scores: list[float | list[float | None] | None]
    version: str = ""
    refusals: dict[int, str] = {}
    queue_ms: float = 0.0
    model_ms: float = 0.0


_to_msgpack = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder(_Binary).decode
_shared_from_msgpack = msgspec.msgpack.Decoder(_Shared).decode
# How msgpack begins an array of five of which the first is this version.
_SHARED_HEAD = bytes([0x90 + len(_Shared.__struct_fields__), SHARED_FORMAT_VERSION])
_from_json = msgspec.json.Decoder(_Json).decode


def encode_frame(frame: PredictionFrame) -> bytes:
    """The binary form of a frame."""
    return encode_frames([frame])


def encode_frames(frames: Sequence[PredictionFrame]) -> bytes:
    """The binary form of what some models, at least one, say of the same events."""
    first = frames[0]
    count = len(first.offsets)
    assert 0 < count <= MAX_EVENTS, f"a frame carries 1 to {MAX_EVENTS} events, not {count}"
    offsets = np.ascontiguousarray(first.offsets, _OFFSETS).tobytes()
    answers = [_answers_of(frame, count) for frame in frames]
    if len(answers) > 1:
        shared = _Shared(SHARED_FORMAT_VERSION, first.topic, first.partition, offsets, answers)
        return _to_msgpack(shared)
    (only,) = answers
    return _to_msgpack(
        _Binary(
            FORMAT_VERSION,
            only.model,
            only.version,
            first.topic,
            first.partition,
            offsets,
            only.scores,
            only.columns,
            only.refusals,
            only.timing,
        )
    )


def _answers_of(frame: PredictionFrame, count: int) -> _Answers:
    scores = frame.scores
    assert scores.shape[0] == len(frame.offsets) == count
    return _Answers(
        frame.model,
        frame.version,
        np.ascontiguousarray(scores, _SCORES).tobytes(),
        scores.shape[1] if scores.ndim == 2 else 1,
        {place: reason[:MAX_REASON_CHARS] for place, reason in frame.refusals.items()},
        frame.timing,
    )


def decode_frames(value: bytes | None) -> list[PredictionFrame]:
    """The frames of a record: one, or in the binary form one of each model that shares it.

    Raises:
        FrameError: the bytes are neither binary nor JSON, or their content contradicts itself.
    """
    if not value:
        raise FrameError("the value is empty")
    try:
        frames = _decoded(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)[:MAX_REASON_CHARS]) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise FrameError(f"numbers do not fit: {error}"[:MAX_REASON_CHARS]) from error
    if not frames:
        raise FrameError("no model answers in it")
    _check_offsets(frames[0].offsets)
    for frame in frames:
        _check_answers(frame)
    return frames


def _decoded(value: bytes) -> list[PredictionFrame]:
    if value[:2] == _SHARED_HEAD:
        return _decode_shared(value)
    return [_decode_json(value) if value.lstrip()[:1] == b"{" else _decode_binary(value)]


def _decode_shared(value: bytes) -> list[PredictionFrame]:
    raw = _shared_from_msgpack(value)
    offsets = np.frombuffer(raw.offsets, _OFFSETS)
    return [
        PredictionFrame(
            part.model,
            part.version,
            raw.topic,
            raw.partition,
            offsets,
            _numbers(part.scores, part.columns),
            part.refusals,
            part.timing,
        )
        for part in raw.answers
    ]


def _numbers(scores: bytes, columns: int) -> NDArray[np.float64]:
    if columns < 1:
        raise FrameError(f"{columns} columns; expected at least 1")
    numbers = np.frombuffer(scores, _SCORES)
    return numbers.reshape(-1, columns) if columns > 1 else numbers


def _decode_binary(value: bytes) -> PredictionFrame:
    raw = _from_msgpack(value)
    if raw.format != FORMAT_VERSION:
        raise FrameError(f"format {raw.format}; this process reads format {FORMAT_VERSION}")
    return PredictionFrame(
        raw.model,
        raw.version,
        raw.topic,
        raw.partition,
        np.frombuffer(raw.offsets, _OFFSETS),
        _numbers(raw.scores, raw.columns),
        raw.refusals,
        raw.timing,
    )


def _decode_json(value: bytes) -> PredictionFrame:
    raw = _from_json(value)
    width = max((len(row) for row in raw.scores if isinstance(row, list)), default=0)
    nothing = [None] * width
    rows = [nothing if row is None else row for row in raw.scores] if width else raw.scores
    scores: NDArray[Any] = np.array(rows, dtype=np.float64)
    return PredictionFrame(
        raw.model,
        raw.version,
        raw.topic,
        raw.partition,
        np.array(raw.offsets, dtype=np.int64),
        scores,
        {place: reason[:MAX_REASON_CHARS] for place, reason in raw.refusals.items()},
        Timing(raw.queue_ms, raw.model_ms),
    )


def _check_offsets(offsets: NDArray[np.int64]) -> None:
    if not 0 < len(offsets) <= MAX_EVENTS:
        raise FrameError(f"{len(offsets)} events; expected 1 to {MAX_EVENTS}")
    if int(offsets.min()) < 0:
        raise FrameError("an offset is negative")


def _check_answers(frame: PredictionFrame) -> None:
    count = len(frame.offsets)
    if len(frame.scores) != count:
        raise FrameError(f"{count} offsets but {len(frame.scores)} scores")
    if frame.scores.ndim > 2:
        raise FrameError("scores are nested more than once")
    if frame.refusals and not all(0 <= place < count for place in frame.refusals):
        raise FrameError("a refusal stands at a position outside the frame")
