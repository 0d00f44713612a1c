"""Predictions on the wire: one record, many events, one model.

Between our own processes a frame is a msgpack array whose number columns are raw little-endian
bytes, so that reading one costs the same for one event and for a thousand. Anybody else writes
the same content as JSON:

    {"model": "rules", "version": "7", "topic": "events", "partition": 2,
     "offsets": [1201, 1202, 1203], "scores": [0.91, null, 0.02],
     "refusals": {"1": "amount is negative"}}

A score that is null (NaN in the binary form) is a refusal; its reason, if given, stands under its
position in the frame. The first byte tells the two forms apart.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1
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
_from_json = msgspec.json.Decoder(_Json).decode


def encode_frame(frame: PredictionFrame) -> bytes:
    """The binary form of a frame."""
    count = len(frame.offsets)
    assert 0 < count <= MAX_EVENTS, f"a frame carries 1 to {MAX_EVENTS} events, not {count}"
    assert frame.scores.shape[0] == count
    columns = frame.scores.shape[1] if frame.scores.ndim == 2 else 1
    return _to_msgpack(
        _Binary(
            FORMAT_VERSION,
            frame.model,
            frame.version,
            frame.topic,
            frame.partition,
            np.ascontiguousarray(frame.offsets, _OFFSETS).tobytes(),
            np.ascontiguousarray(frame.scores, _SCORES).tobytes(),
            columns,
            {place: reason[:MAX_REASON_CHARS] for place, reason in frame.refusals.items()},
            frame.timing,
        )
    )


def decode_frame(value: bytes | None) -> PredictionFrame:
    """A frame from its binary or its JSON form.

    Raises:
        FrameError: the bytes are neither, or their content contradicts itself.
    """
    if not value:
        raise FrameError("the value is empty")
    try:
        frame = _decode_json(value) if value.lstrip()[:1] == b"{" else _decode_binary(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)[:MAX_REASON_CHARS]) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise FrameError(f"numbers do not fit: {error}"[:MAX_REASON_CHARS]) from error
    _check(frame)
    return frame


def _decode_binary(value: bytes) -> PredictionFrame:
    raw = _from_msgpack(value)
    if raw.format != FORMAT_VERSION:
        raise FrameError(f"format {raw.format}; this process reads format {FORMAT_VERSION}")
    if raw.columns < 1:
        raise FrameError(f"{raw.columns} columns; expected at least 1")
    offsets = np.frombuffer(raw.offsets, _OFFSETS)
    scores = np.frombuffer(raw.scores, _SCORES)
    if raw.columns > 1:
        scores = scores.reshape(-1, raw.columns)
    return PredictionFrame(
        raw.model, raw.version, raw.topic, raw.partition, offsets, scores, raw.refusals, raw.timing
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


def _check(frame: PredictionFrame) -> None:
    count = len(frame.offsets)
    if not 0 < count <= MAX_EVENTS:
        raise FrameError(f"{count} events; expected 1 to {MAX_EVENTS}")
    if len(frame.scores) != count:
        raise FrameError(f"{count} offsets but {len(frame.scores)} scores")
    if frame.scores.ndim > 2:
        raise FrameError("scores are nested more than once")
    if int(frame.offsets.min()) < 0:
        raise FrameError("an offset is negative")
    if frame.refusals and not all(0 <= place < count for place in frame.refusals):
        raise FrameError("a refusal stands at a position outside the frame")
