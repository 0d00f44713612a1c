"""Two kinds of time that must not be mixed, and the clock that gives both.

`MonotonicNs` never goes back and means nothing outside this process: deadlines run on it.
`WallMs` is milliseconds since 1970 (UTC): it is written on records and may jump.
"""

import datetime
from typing import NewType, Protocol

import numpy as np
from numpy.typing import NDArray

MonotonicNs = NewType("MonotonicNs", int)
WallMs = NewType("WallMs", int)

NS_PER_MS = 1_000_000
# 0001-01-01 and 9999-12-31: what an ISO 8601 text with four digits of year can hold.
MIN_WALL_MS = -62_135_596_800_000
MAX_WALL_MS = 253_402_300_799_999

_MILLIS = [f".{milli:03d}Z" for milli in range(1000)]


class Clock(Protocol):
    """What a shell hands to those who need to know the time."""

    def monotonic_ns(self) -> MonotonicNs:
        """Nanoseconds from an arbitrary start; never decreases."""
        ...

    def wall_ms(self) -> WallMs:
        """Milliseconds since 1970-01-01 UTC."""
        ...


def iso_from_wall_ms(times_ms: NDArray[np.int64]) -> list[str]:
    """ISO 8601 texts in UTC with milliseconds, clipped to the years 1 to 9999.

    >>> iso_from_wall_ms(np.array([0, 1_700_000_000_123]))
    ['1970-01-01T00:00:00.000Z', '2023-11-14T22:13:20.123Z']
    """
    seconds, millis = np.divmod(np.clip(times_ms, MIN_WALL_MS, MAX_WALL_MS), 1000)
    # Times of a batch lie within few seconds, and to spell one costs more than all else here.
    distinct = np.unique(seconds)
    spelled = np.datetime_as_string(distinct.astype("datetime64[s]"), unit="s").tolist()
    texts = dict(zip(distinct.tolist(), spelled, strict=True))
    moments = zip(seconds.tolist(), millis.tolist(), strict=True)
    return [texts[second] + _MILLIS[milli] for second, milli in moments]


def wall_ms_from_iso(text: str) -> WallMs:
    """Milliseconds since 1970 of an ISO 8601 text; without a zone it is UTC. Raises ValueError.

    >>> wall_ms_from_iso("2023-11-14T22:13:20.123Z")
    1700000000123
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return WallMs((moment - epoch) // datetime.timedelta(milliseconds=1))
