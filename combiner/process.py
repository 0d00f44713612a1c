"""A combiner process: what `ensemble combiner` runs."""

import threading
from pathlib import Path

from cache.breaker import BreakerConfig, BreakerState
from cache.opening import open_cache
from cache.protocol import CacheObserver, Operation
from combiner.service import CombinerService
from registry.bundle import load_manifest
from streams import signals
from streams.clock import SystemClock
from streams.metrics import Metrics, serve
from streams.settings import Settings


class _CountedCache(CacheObserver):
    """Shows what the cache does as metrics."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics = metrics
        self._name = name

    def looked_up(self, hits: int, misses: int) -> None:
        """Count look-ups."""
        self._metrics.counter(signals.CACHE_LOOKUPS, self._name, "hit").inc(hits)
        self._metrics.counter(signals.CACHE_LOOKUPS, self._name, "miss").inc(misses)

    def state_changed(self, operation: Operation, state: BreakerState) -> None:
        """Show whether the cache is bypassed."""
        is_open = float(state is not BreakerState.CLOSED)
        self._metrics.gauge(signals.CACHE_OPEN, f"{self._name} {operation}").set(is_open)


def run_combiner(
    settings: Settings, slot: str, stop: threading.Event, metrics_port: int | None = None
) -> None:
    """Run one combiner until `stop` is set.

    Args:
        settings: the configuration.
        slot: a name that stays the same over restarts and that no other combiner has.
        stop: set it to leave; what was decided is committed first.
        metrics_port: where metrics are shown; None takes the configured port.

    Raises:
        ConfigurationError, BundleError: as found before anything is read.
        BrokerError, FencedError: the process should be started again.
    """
    clock = SystemClock()
    metrics = Metrics()
    bundle = load_manifest(Path(settings.ensemble.bundle))
    cache = open_cache(
        settings.cache.url.get_secret_value(),
        timeout_ms=settings.cache.timeout_ms,
        max_entries=settings.cache.max_entries,
        breaker=BreakerConfig(
            failures=settings.cache.breaker_failures,
            cool_down_ms=settings.cache.breaker_cool_down_ms,
        ),
        clock=clock,
        observer=_CountedCache(metrics, "latest"),
    )
    service = CombinerService(settings, bundle, slot, cache, metrics, clock)
    port = settings.metrics.combiner_port if metrics_port is None else metrics_port
    server = serve(metrics, settings.metrics.host, port, ready=lambda: service.ready)
    try:
        service.run(stop)
    finally:
        server.close()
