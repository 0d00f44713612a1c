"""Positions whose commit the group has not confirmed yet.

A broker that restarts refuses commits for a while, or never answers one: otherwise the position of
a partition of which nothing new comes would stay behind. What was refused, had no answer for long,
or was undone by an older commit that came late, goes out again with the next one.
"""

from collections.abc import Iterable, Mapping

from streams.columns import Place, Position

# A group that is well answers within milliseconds; asking twice does no harm.
PATIENCE_S = 5.0


class Unconfirmed:
    """The newest position asked for, by partition, and whether it is confirmed."""

    def __init__(self) -> None:
        self._newest: dict[Place, Position] = {}
        self._asked_s: dict[Place, float] = {}
        self._refused: set[Place] = set()

    def add(self, positions: Mapping[Place, Position], now_s: float) -> dict[Place, Position]:
        """Ask for these; returns them, and what has to be asked for again.

        Args:
            positions: by partition.
            now_s: of any clock that does not step.
        """
        late = {place for place, s in self._asked_s.items() if now_s - s >= PATIENCE_S}
        return self._ask(self._refused | late, positions, now_s)

    def add_all(self, positions: Mapping[Place, Position], now_s: float) -> dict[Place, Position]:
        """As `add`, and all that has no answer yet."""
        return self._ask(self._refused | self._asked_s.keys(), positions, now_s)

    def _ask(
        self, again: Iterable[Place], positions: Mapping[Place, Position], now_s: float
    ) -> dict[Place, Position]:
        self._newest.update(positions)
        asked = {place: self._newest[place] for place in (*again, *positions)}
        self._asked_s.update(dict.fromkeys(asked, now_s))
        self._refused.clear()
        return asked

    def confirm(self, place: Place, position: Position) -> None:
        """This is committed; more may have been asked for meanwhile."""
        if self._newest.get(place) == position:
            self._asked_s.pop(place, None)
            self._refused.discard(place)
        elif place in self._newest and place not in self._asked_s:
            # The client makes a commit again that it could not send: perhaps after a newer one.
            self._refused.add(place)

    def refuse(self, place: Place) -> None:
        """A commit of this partition failed."""
        if place in self._asked_s:
            self._refused.add(place)

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions are somebody else's, or read anew: ask for none of it any more."""
        for place in places:
            self._newest.pop(place, None)
            self._asked_s.pop(place, None)
            self._refused.discard(place)
