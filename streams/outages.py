"""Which events piled up while no broker answered: they are backlog, although nobody restarted."""

from collections.abc import Iterable

Place = tuple[str, int]


class Outage:
    """Partitions that may be behind, since the brokers were away.

    >>> outage = Outage()
    >>> outage.begin([("events", 0)])
    >>> outage.piled_up(("events", 0), 700, 1000)  # read up to 700 of 1000
    1000
    >>> outage.piled_up(("events", 0), 1010, 1010)  # caught up with what had come meanwhile
    1010
    >>> outage.piled_up(("events", 0), 1012, 1020)  # business as usual
    0
    """

    def __init__(self) -> None:
        self._behind: set[Place] = set()

    def begin(self, places: Iterable[Place]) -> None:
        """No broker answers any more, and these partitions are read."""
        self._behind.update(places)

    def piled_up(self, place: Place, next_offset: int, end: int) -> int:
        """The offset below which events piled up; 0 if reading is not behind.

        Args:
            place: where records were read just now.
            next_offset: behind the last of them.
            end: the offset that the next record of the partition will have.
        """
        if place not in self._behind:
            return 0
        if next_offset >= end:
            self._behind.discard(place)
        return max(next_offset, end)
