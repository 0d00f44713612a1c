"""Which events above the committed offset are settled, as text for the commit's metadata.

In ready order events leave in any order, but a consumer group's position is one number: the first
event that has not left. What left above it must be remembered with the position itself, so that
one transaction holds both. Kafka keeps a text beside each committed offset, of 4,096 bytes with
stock brokers; `MOST_BYTES` stays below that.

The text is `ahead-1:` and, in base 85, variable-length integers (LEB128): alternately how many
offsets are open and how many are settled, from the committed offset on. Offsets that no event has
count with what they stand between. A text is empty when nothing left ahead. The same runs give
the same text, and it never grows when the committed offset moves up: what fits today fits
tomorrow.
"""

import base64
import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 4000
_PREFIX = "ahead-1:"
_BITS = 7
# Nine groups of seven bits are 63: any offset, and nothing that is none.
_MOST_GROUPS = 9

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class UnreadableError(ValueError):
    """A text that `encode` never made."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Ranges of offsets from `starts` up to, not including, `stops`: int64[R] each.

    They ascend and do not touch.
    """

    starts: Ints
    stops: Ints

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def total(self) -> int:
        """How many offsets they hold."""
        return int((self.stops - self.starts).sum())

    def contain(self, offsets: Ints) -> Bools:
        """bool[N]: which of int64[N] offsets are within."""
        if not len(self):
            return np.zeros(len(offsets), dtype=np.bool_)
        places = np.searchsorted(self.starts, offsets, side="right") - 1
        within: Bools = (places >= 0) & (offsets < self.stops[places])
        return within

    def above(self, offset: int) -> "Runs":
        """What is left of them from an offset on."""
        kept = self.stops > offset
        return Runs(np.maximum(self.starts[kept], offset), self.stops[kept])

    def then(self, later: "Runs") -> "Runs":
        """These, and others that begin where these end or behind."""
        if not len(self) or not len(later):
            return self if len(self) else later
        if self.stops[-1] < later.starts[0]:
            parts = (self.starts, later.starts), (self.stops, later.stops)
        else:
            parts = (self.starts, later.starts[1:]), (self.stops[:-1], later.stops)
        return Runs(np.concatenate(parts[0]), np.concatenate(parts[1]))


NONE = Runs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def run_of(start: int, stop: int) -> Runs:
    """All offsets from one up to another."""
    return Runs(np.array([start], dtype=np.int64), np.array([stop], dtype=np.int64))


def runs_of(marked: Bools, offsets: Ints) -> Runs:
    """The runs of marked rows, from bool[N] marks and int64[N] ascending offsets."""
    fenced = np.zeros(len(marked) + 2, dtype=np.bool_)
    fenced[1:-1] = marked
    edges = (fenced[1:] != fenced[:-1]).nonzero()[0]
    return Runs(offsets[edges[::2]], offsets[edges[1::2] - 1] + 1)


def encode(offset: int, runs: Runs) -> str:
    """The text for runs that begin at the committed offset or above it."""
    if not len(runs):
        return ""
    return _PREFIX + base64.b85encode(_varints(_lengths(offset, runs))).decode("ascii")


def encoded_bytes(offset: int, runs: Runs) -> int:
    """The length of what `encode` would make."""
    if not len(runs):
        return 0
    full, rest = divmod(int(_sizes(_lengths(offset, runs)).sum()), 4)
    return len(_PREFIX) + 5 * full + (rest + 1 if rest else 0)


def decode(offset: int, text: str) -> Runs:
    """The runs of a text that was committed with an offset.

    Raises:
        UnreadableError: it is not ours, or was damaged.
    """
    if not text:
        return NONE
    if not text.startswith(_PREFIX):
        raise UnreadableError(f"it does not begin with {_PREFIX!r}")
    try:
        content = base64.b85decode(text.removeprefix(_PREFIX))
    except (ValueError, binascii.Error) as error:
        raise UnreadableError(str(error)) from error
    lengths = _numbers(np.frombuffer(content, dtype=np.uint8))
    if len(lengths) % 2 or not (lengths[1:] > 0).all():
        raise UnreadableError("its runs are not whole")
    edges = offset + np.cumsum(lengths)
    runs = Runs(edges[::2], edges[1::2])
    # Whatever decodes must be what was encoded: a sum that overflowed, or another spelling of the
    # same numbers, is none of ours.
    if not (np.diff(edges, prepend=offset) >= 0).all() or encode(offset, runs) != text:
        raise UnreadableError("it is no text of ours")
    return runs


def _lengths(offset: int, runs: Runs) -> Ints:
    """int64[2R]: how many are open, then settled, then open, and so on."""
    edges = np.empty(2 * len(runs) + 1, dtype=np.int64)
    edges[0], edges[1::2], edges[2::2] = offset, runs.starts, runs.stops
    lengths: Ints = np.diff(edges)
    assert (lengths[1:] > 0).all(), "runs ascend and do not touch"
    assert lengths[0] >= 0, "runs begin above the offset"
    return lengths


def _sizes(numbers: Ints) -> Ints:
    """How many bytes each number needs."""
    steps = np.int64(1) << np.arange(_BITS, _BITS * _MOST_GROUPS, _BITS, dtype=np.int64)
    return 1 + np.searchsorted(steps, numbers, side="right")


def _varints(numbers: Ints) -> bytes:
    """LEB128: seven bits a byte, the lowest first, and a high bit where more follow."""
    sizes = _sizes(numbers)
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    groups = (np.repeat(numbers, sizes) >> (_BITS * place)) & 0x7F
    more = (place < np.repeat(sizes, sizes) - 1) * 0x80
    content: bytes = (groups | more).astype(np.uint8).tobytes()
    return content


def _numbers(content: NDArray[np.uint8]) -> Ints:
    """The numbers of LEB128 bytes."""
    last = np.flatnonzero(content < 0x80)
    if not len(last) or last[-1] != len(content) - 1:
        raise UnreadableError("it ends within a number")
    sizes = np.diff(last, prepend=-1)
    if sizes.max() > _MOST_GROUPS:
        raise UnreadableError("a number is too large")
    first = last - sizes + 1
    place = np.arange(len(content)) - np.repeat(first, sizes)
    groups = (content & 0x7F).astype(np.int64) << (_BITS * place)
    numbers: Ints = np.add.reduceat(groups, first)
    return numbers
