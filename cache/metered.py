"""What a cache does, as metrics."""

from cache.protocol import CacheObserver, Operation
from streams import signals
from streams.breaker import BreakerState
from streams.metrics import Metrics


class MeteredCache(CacheObserver):
    """Counts look-ups, and shows when a cache is bypassed; `name` is the metrics' label."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics = metrics
        self._name = name

    def looked_up(self, hits: int, misses: int) -> None:
        """Count a batch of keys."""
        self._metrics.counter(signals.CACHE_LOOKUPS, self._name, "hit").inc(hits)
        self._metrics.counter(signals.CACHE_LOOKUPS, self._name, "miss").inc(misses)

    def state_changed(self, operation: Operation, state: BreakerState) -> None:
        """Show whether reads or writes pass."""
        is_open = float(state is not BreakerState.CLOSED)
        self._metrics.gauge(signals.CACHE_OPEN, f"{self._name} {operation}").set(is_open)
