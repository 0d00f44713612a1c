"""The combiner's side of the cache: the latest score of each entity, and when it is written."""

from collections.abc import Sequence

from cache import keys
from cache.latest import Latest, decode_latest, encode_latest
from cache.protocol import ScoreCache
from combiner.output import Output


class LatestScores:
    """The latest scores of one ensemble; all methods answer at once.

    Args:
        cache: where they are.
        ensemble: its name.
        ttl_s: how long they are kept.
    """

    def __init__(self, cache: ScoreCache, ensemble: str, ttl_s: int) -> None:
        self._cache = cache
        self._ensemble = ensemble
        self._ttl_s = ttl_s

    def recall(self, entities: Sequence[str]) -> list[Latest | None]:
        """What is known of some entities."""
        found = self._cache.get_many(keys.latest_keys(self._ensemble, entities))
        return [decode_latest(value) for value in found]

    def remember(self, outputs: Sequence[Output]) -> None:
        """Keep the scores of outcomes that are safe with the broker."""
        latest = dict(entry for output in outputs for entry in output.latest)
        if latest:
            names = keys.latest_keys(self._ensemble, list(latest))
            values = map(encode_latest, latest.values())
            self._cache.set_many(list(zip(names, values, strict=True)), self._ttl_s)

    def close(self) -> None:
        """Finish what is being written."""
        self._cache.close()
