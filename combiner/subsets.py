"""Things that are kept by subset of members, looked up for a whole batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Thing = TypeVar("Thing")

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class BySubset(Generic[Thing]):
    """Finds the thing for those present: by mask, else by how many they are.

    Args:
        columns: the column of each member, in the order of the masks; others play no part.
        things: by mask ("10111") or by count ("#3").

    Where neither is known, it is the thing of the next smaller count, or of the smallest there
    is: fewer members promise less.
    """

    def __init__(self, columns: Sequence[int], things: Mapping[str, Thing]) -> None:
        self._columns = np.array(columns, dtype=np.int64)
        self._bits = 2 ** np.arange(len(columns), dtype=np.int64)
        self._things = things
        self._counts = sorted({_count(key) for key in things})
        self._found: dict[int, Thing] = {}
        assert things

    def groups(self, present: Bools) -> Iterator[tuple[Ints, Thing]]:
        """Rows of bool[N, M] that share a subset, and its thing; a turn for each subset."""
        masks = present[:, self._columns] @ self._bits
        for mask in np.unique(masks).tolist():
            yield np.flatnonzero(masks == mask), self._of(mask)

    def _of(self, mask: int) -> Thing:
        if mask not in self._found:
            digits = "".join("1" if mask & int(bit) else "0" for bit in self._bits)
            self._found[mask] = self._nearest(digits)
        return self._found[mask]

    def _nearest(self, digits: str) -> Thing:
        if digits in self._things:
            return self._things[digits]
        count = digits.count("1")
        below = [known for known in self._counts if known <= count]
        wanted = below[-1] if below else self._counts[0]
        if f"#{wanted}" in self._things:
            return self._things[f"#{wanted}"]
        return next(thing for key, thing in self._things.items() if _count(key) == wanted)


def _count(key: str) -> int:
    return int(key[1:]) if key.startswith("#") else key.count("1")
