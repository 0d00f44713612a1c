"""Which records of a partition are done, in any order, within the limits of a committed offset.

Kafka keeps one offset for each partition and group, and a short text beside it, written in the
same transaction. The offset is the first record that is not done; the text holds what is done
behind it, as counts: open, done, open, done …

    offset 120, text "1:3,10,1,200"      123 to 132 and 134 to 333 are done as well

The number before the colon is the form of the text: 1 as above, 2 the same compressed, where it
would be too long.
"""

import zlib
from bisect import bisect_right
from collections.abc import Iterator

import msgspec

# The broker takes 4,096 bytes (offset.metadata.max.bytes).
MAX_TEXT = 4000
_PLAIN, _COMPRESSED = "1:", "2:"


class Done:
    """The done offsets of one partition."""

    def __init__(self, low: int = 0) -> None:
        self.low = low
        # Ascending, none empty, none touching another, none at or below `low`.
        self._starts: list[int] = []
        self._stops: list[int] = []

    @classmethod
    def read(cls, offset: int, text: str | None) -> "Done":
        """From a committed offset and its text; a text in another form holds nothing.

        >>> list(Done.read(120, "1:3,10").ranges())
        [(123, 133)]
        """
        done = cls(offset)
        try:
            counts = _counts(text or "")
        except (ValueError, zlib.error, msgspec.MsgspecError):
            return done
        at = offset
        for place, count in enumerate(counts):
            if place % 2:
                done.add(at, at + count)
            at += count
        return done

    def __contains__(self, offset: int) -> bool:
        place = bisect_right(self._starts, offset) - 1
        return offset < self.low or (place >= 0 and offset < self._stops[place])

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Done offsets above `low`, as [start, stop)."""
        return zip(self._starts, self._stops, strict=True)

    def add(self, start: int, stop: int) -> None:
        """The offsets from `start` up to `stop` are done."""
        if stop <= max(start, self.low):
            return
        first = bisect_right(self._stops, start - 1)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self.forget_below(self.low)

    def forget_below(self, offset: int) -> None:
        """Nothing below `offset` is there any more, and so nothing there is open."""
        self.low = max(self.low, offset)
        while self._starts and self._starts[0] <= self.low:
            self.low = max(self.low, self._stops.pop(0))
            self._starts.pop(0)

    def text(self) -> str:
        """What stands beside the offset; empty when `low` says it all."""
        counts, at = [], self.low
        for start, stop in self.ranges():
            counts += [start - at, stop - start]
            at = stop
        if not counts:
            return ""
        text = ",".join(map(str, counts))
        if len(text) + len(_PLAIN) <= MAX_TEXT:
            return _PLAIN + text
        # JSON spells bytes in base64.
        packed = msgspec.json.encode(zlib.compress(text.encode(), 9))
        return _COMPRESSED + packed[1:-1].decode()


def _counts(text: str) -> list[int]:
    """The counts in a text; none in one of another form. Raises what is wrong with it."""
    form, rest = text[: len(_PLAIN)], text[len(_PLAIN) :]
    if form == _COMPRESSED:
        packed = msgspec.json.decode(msgspec.json.encode(rest), type=bytes)
        rest = zlib.decompress(packed).decode()
    elif form != _PLAIN:
        return []
    counts = [int(part) for part in rest.split(",")]
    return counts if min(counts) >= 0 else []
