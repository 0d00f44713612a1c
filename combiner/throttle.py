"""Which partitions are not read for a while, so that what waits stays bounded."""

from collections.abc import Iterable, Mapping

Place = tuple[str, int]  # topic, partition


class Throttle:
    """Partitions that hold too much are paused until they hold less than half of that.

    Half, so that a partition at the edge does not go to and fro with each record.

    Args:
        limit: from how much on a partition is paused.
    """

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self._limit = limit
        self.paused: set[Place] = set()

    def forget(self, places: Iterable[Place]) -> None:
        """These came, or are read anew: nobody has paused them."""
        self.paused.difference_update(places)

    def judge(
        self, held: Mapping[Place, int], *, blocked: bool = False
    ) -> tuple[list[Place], list[Place]]:
        """Whom to pause and whom to resume.

        Args:
            held: what each partition holds now.
            blocked: nothing leaves for the moment, so nothing more may come.
        """
        stop = [
            place
            for place, amount in held.items()
            if place not in self.paused and (blocked or amount >= self._limit)
        ]
        go = [
            place
            for place, amount in held.items()
            if place in self.paused and not blocked and amount < max(1, self._limit // 2)
        ]
        self.paused.update(stop)
        self.paused.difference_update(go)
        return stop, go
