"""The value stored for an entity's latest score."""

import math

import msgspec

from streams.instants import WallMs

# The label of an amount, which has none.
NO_LABEL = -1


class LatestScore(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """What was last said about an entity: a probability, or an amount.

    Attributes:
        ensemble: `name@hash`, the exact bundle that said it.
        score: the ensemble's score, finite.
        label: 1 where the score reached the threshold, else 0; `NO_LABEL` for an amount.
        event_time_ms: when the scored event happened, wall clock.
        scored_at_ms: when it was scored, wall clock.
        event_id: the id of the scored event.
    """

    ensemble: str
    score: float
    label: int
    event_time_ms: WallMs
    scored_at_ms: WallMs
    event_id: str = ""

    def age_ms(self, now_ms: WallMs) -> int:
        """Milliseconds since it was scored; 0 when the wall clock has gone back since."""
        return max(0, now_ms - self.scored_at_ms)


class LatestClasses(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """What was last said about an entity, where there are several classes.

    Attributes:
        ensemble: `name@hash`, the exact bundle that said it.
        scores: class → its probability, finite.
        label: the likeliest class.
        event_time_ms: when the scored event happened, wall clock.
        scored_at_ms: when it was scored, wall clock.
        event_id: the id of the scored event.
    """

    ensemble: str
    scores: dict[str, float]
    label: str
    event_time_ms: WallMs
    scored_at_ms: WallMs
    event_id: str = ""

    def age_ms(self, now_ms: WallMs) -> int:
        """Milliseconds since it was scored; 0 when the wall clock has gone back since."""
        return max(0, now_ms - self.scored_at_ms)


Latest = LatestScore | LatestClasses

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Latest] = msgspec.msgpack.Decoder(Latest)


def _is_sound(latest: Latest) -> bool:
    if isinstance(latest, LatestScore):
        return math.isfinite(latest.score)
    return latest.label in latest.scores and all(map(math.isfinite, latest.scores.values()))


def encode_latest(latest: Latest) -> bytes:
    """The bytes to store."""
    assert _is_sound(latest), latest
    return _ENCODER.encode(latest)


def decode_latest(value: bytes | None) -> Latest | None:
    """The latest score in a cached value; None for a miss and for anything that is not one.

    >>> decode_latest(b"not ours") is None
    True
    """
    if value is None:
        return None
    try:
        latest = _DECODER.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return latest if _is_sound(latest) else None
