"""Where a stretch of a topic begins and ends, as people write it.

    beginning                    the oldest record that is there
    end                          behind the newest one
    2026-11-21T03:00:00Z         the first record from this time on (UTC if it names no zone)
    -15m                         so long ago: s, m, h or d
    0:1200,1:1180                partition:offset, for the partitions wanted
    clicks/0:1200                the same of one input topic, where there are several

Times are those of the records, as Kafka keeps them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.instants import WallMs, wall_ms_from_iso

EXPECTED = (
    "expected beginning, end, an ISO 8601 time, a time ago such as -15m, "
    "or offsets such as 0:1200,1:1180"
)

_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_AGO_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_OFFSET = re.compile(r"(?:(?P<topic>[A-Za-z0-9._-]+)/)?(?P<partition>\d{1,9}):(?P<offset>\d{1,18})")


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a stretch.

    Attributes:
        time_ms: a record timestamp; None is none.
        offsets: (topic or an empty text for any, partition) → offset.
        at_end: where neither says anything: the end of the topic, else its beginning.
    """

    time_ms: WallMs | None = None
    offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)
    at_end: bool = False

    def offset_of(self, topic: str, partition: int) -> int | None:
        """The offset that is named for a partition; None is none."""
        found = self.offsets.get((topic, partition))
        return self.offsets.get(("", partition)) if found is None else found


def time_of(text: str, now_ms: WallMs) -> WallMs:
    """Milliseconds since 1970, from ISO 8601 or a time ago. Raises ValueError.

    >>> time_of("-1.5m", WallMs(100_000)), time_of("1970-01-01T00:00:02Z", WallMs(0))
    (10000, 2000)
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return WallMs(now_ms - round(float(ago[1]) * _AGO_MS[ago[2]]))
    return wall_ms_from_iso(text)


def bound_of(text: str, now_ms: WallMs) -> Bound:
    """One end of a stretch from its text. Raises ValueError with what was expected.

    >>> bound_of("end", WallMs(0)), bound_of("1:20", WallMs(0)).offset_of("events", 1)
    (Bound(time_ms=None, offsets={}, at_end=True), 20)
    """
    if text in {"beginning", "end"}:
        return Bound(at_end=text == "end")
    parts = [_OFFSET.fullmatch(part.strip()) for part in text.split(",")]
    if all(parts):
        offsets = {
            (part["topic"] or "", int(part["partition"])): int(part["offset"])
            for part in parts
            if part is not None
        }
        return Bound(offsets=offsets)
    try:
        return Bound(time_ms=time_of(text, now_ms))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"got {text!r}, {EXPECTED}") from error
