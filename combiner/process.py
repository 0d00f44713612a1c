"""A combiner process: what `ensemble combiner` runs."""

import threading
from pathlib import Path

from cache.metered import MeteredCache
from cache.opening import open_configured
from combiner.service import CombinerService
from registry.bundle import load_manifest
from streams.clock import SystemClock
from streams.interpreter import settle
from streams.metrics import Metrics, serve
from streams.settings import Settings
from streams.switch import DeadMansSwitch

# Of its requests to a broker each has a limit of its own, of 30 s at most.
_LONGEST_TURN_S = 60.0


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
    switch = DeadMansSwitch(_LONGEST_TURN_S)
    clock = SystemClock()
    metrics = Metrics()
    bundle = load_manifest(Path(settings.ensemble.bundle))
    cache = open_configured(settings.cache, clock, MeteredCache(metrics, "latest"))
    service = CombinerService(settings, bundle, slot, cache, metrics, clock, switch.hold)
    port = settings.metrics.combiner_port if metrics_port is None else metrics_port
    server = serve(metrics, settings.metrics.host, port, ready=lambda: service.ready)
    settle()
    try:
        service.run(stop)
    finally:
        server.close()
        switch.release()
