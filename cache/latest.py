"""The value stored for an entity's latest score."""

import math

import msgspec

from streams.instants import WallMs


class LatestScore(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What was last said about an entity.

    Attributes:
        ensemble: `name@hash`, the exact bundle that said it.
        score: the ensemble's score, finite.
        label: 1 where the score reached the threshold, else 0.
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


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(LatestScore)


def encode_latest(latest: LatestScore) -> bytes:
    """The bytes to store."""
    assert math.isfinite(latest.score), latest
    return _ENCODER.encode(latest)


def decode_latest(value: bytes | None) -> LatestScore | None:
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
    return latest if math.isfinite(latest.score) else None
