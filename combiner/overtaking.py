"""Rows that left ahead of an earlier one: counted, listed for the commit, and kept to few.

The list of them goes into the metadata of the committed position (`combiner.ahead`), so it must
stay short. A row for which it has no room is *held back* until earlier ones have left.
"""

import numpy as np

from combiner.ahead import NONE, Runs, encoded_bytes, runs_of
from combiner.rows import Bools, Ints, Rows


class Overtaking:
    """What left ahead of the oldest pending row of a join.

    Attributes:
        count: how many rows from the oldest pending one on are gone.
        earlier: what left in an earlier life and has not been seen again in this one.
    """

    def __init__(self, rows: Rows, most_bytes: int) -> None:
        self.count = 0
        self.earlier = NONE
        self._rows = rows
        self._most_bytes = most_bytes
        self._held: int | None = None  # number of the first row that is held back

    def position(self) -> tuple[int, Runs]:
        """The first offset that has not left, and what left above it; there must be a row."""
        return self._position_with(self._rows.gone[self._rows.head : self._rows.tail])

    def _position_with(self, gone: Bools) -> tuple[int, Runs]:
        """`position` if, of the rows from the oldest pending one on, those were gone."""
        rows = self._rows
        offsets = rows.offsets[rows.head : rows.tail]
        lowest = int(rows.offsets[rows.tail - 1]) + 1
        if not gone.all():
            lowest = int(offsets[np.argmin(gone)])
        if not len(self.earlier) and not gone.any():
            return lowest, NONE
        return lowest, runs_of(gone, offsets).above(lowest).then(self.earlier)

    def admit(self, which: Ints) -> Ints:
        """Those rows that may leave, of some that could; the others are held back."""
        room = self._room_for(which)
        self._held = self._rows.base + int(which[room]) if room < len(which) else None
        return which[:room]

    def _room_for(self, which: Ints) -> int:
        rows = self._rows

        def fits(count: int) -> bool:
            gone = rows.gone[rows.head : rows.tail].copy()
            gone[which[:count] - rows.head] = True
            return encoded_bytes(*self._position_with(gone)) <= self._most_bytes

        count = len(which)
        if not count or fits(count):
            return count
        # What is on the list fits, and the oldest pending row only shortens it.
        low, high = int(which[0] == rows.head), count
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def waiting(self) -> Ints:
        """The rows that can leave next, if nothing comes in: pending ones before a held one."""
        rows = self._rows
        stop = rows.tail
        if self._held is not None:
            stop = max(self._held - rows.base, rows.head + 1)
        return rows.head + np.flatnonzero(~rows.gone[rows.head : stop])

    def leave(self, which: Ints) -> None:
        """These rows are gone."""
        self._rows.gone[which] = True
        self.let_head_go()

    def let_head_go(self) -> None:
        """The oldest pending row is never one that is gone."""
        rows = self._rows
        gone = rows.gone[rows.head : rows.tail]
        count = len(gone) if gone.all() else int(np.argmin(gone))
        rows.head += count
        self.count = int(np.count_nonzero(gone[count:]))
