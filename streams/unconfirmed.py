"""Positions whose commit the group has not confirmed yet.

A broker that restarts refuses commits for a while. What it refused goes out again with the next
commit, and what has no answer yet with the last one: otherwise the position of a partition of which
nothing new comes would stay behind.
"""

from collections.abc import Iterable, Mapping

from streams.columns import Place, Position


class Unconfirmed:
    """The newest position asked for, by partition, until it is confirmed."""

    def __init__(self) -> None:
        self._asked: dict[Place, Position] = {}
        self._refused: set[Place] = set()

    def add(self, positions: Mapping[Place, Position]) -> dict[Place, Position]:
        """Ask for these; returns them, and what was refused before."""
        again = {place: self._asked[place] for place in self._refused}
        self._refused.clear()
        self._asked.update(positions)
        return {**again, **positions}

    def add_all(self, positions: Mapping[Place, Position]) -> dict[Place, Position]:
        """As `add`, and what has no answer yet."""
        self._refused.clear()
        self._asked.update(positions)
        return dict(self._asked)

    def confirm(self, place: Place, position: Position) -> None:
        """This is committed; more may have been asked for meanwhile."""
        if self._asked.get(place) == position:
            del self._asked[place]
            self._refused.discard(place)

    def refuse(self, place: Place) -> None:
        """A commit of this partition failed."""
        if place in self._asked:
            self._refused.add(place)

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions are somebody else's, or read anew: ask for none of it any more."""
        for place in places:
            self._asked.pop(place, None)
            self._refused.discard(place)
