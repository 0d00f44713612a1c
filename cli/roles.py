"""`ensemble worker`, `combiner` and `monitor`: one role in this process."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, MetricsPortOption, SlotOption

if TYPE_CHECKING:
    from streams.metrics import Metrics
    from streams.settings import Settings
    from workers.protocol import Model


def allow_user_modules(config: Path) -> None:
    """Let `callable = "module:function"` find modules beside the configuration.

    Behind everything that is installed, so that no file there can take a library's place.
    """
    place = str(config.resolve().parent)
    if place not in sys.path:
        sys.path.append(place)


def worker(
    name: Annotated[str, typer.Argument(help="Name of its table in the configuration.")],
    slot: SlotOption,
    config: ConfigOption = DEFAULT_CONFIG,
    metrics_port: MetricsPortOption = None,
) -> None:
    """Score events with the models of one `workers` table, until SIGTERM or Ctrl-C."""
    from cli import logs
    from cli.configuration import load_settings
    from cli.restarts import predecessor_exit
    from cli.stopping import leaving_for_good

    settings = load_settings(config)
    logs.configure(f"worker-{name}-{slot}", settings)
    allow_user_modules(config)
    from streams.metrics import Metrics
    from workers.service import run_worker

    metrics = Metrics()
    with leaving_for_good(), _prediction_cache(settings, metrics) as wrap:
        run_worker(
            settings,
            name,
            slot,
            metrics,
            metrics_port=metrics_port,
            wrap=wrap,
            predecessor_exit=predecessor_exit(os.environ),
        )


def combiner(
    slot: SlotOption,
    config: ConfigOption = DEFAULT_CONFIG,
    metrics_port: MetricsPortOption = None,
) -> None:
    """Combine predictions to scores, until SIGTERM or Ctrl-C."""
    from cli import logs
    from cli.configuration import load_settings
    from cli.stopping import stop_event

    settings = load_settings(config)
    logs.configure(f"combiner-{slot}", settings)
    from combiner.process import run_combiner

    with stop_event() as stop:
        run_combiner(settings, slot, stop, metrics_port=metrics_port)


def monitor(
    config: ConfigOption = DEFAULT_CONFIG,
    metrics_port: MetricsPortOption = None,
) -> None:
    """Watch the health of all models, until SIGTERM or Ctrl-C."""
    from cli import logs
    from cli.configuration import load_settings

    settings = load_settings(config)
    logs.configure("monitor", settings)
    from monitor.service import run_monitor

    run_monitor(settings, metrics_port=metrics_port)


@contextmanager
def _prediction_cache(
    settings: "Settings", metrics: "Metrics"
) -> "Iterator[Callable[[Model], Model]]":
    """What puts a memory in front of the models that are to have one."""
    remembering = {model.name for model in settings.models if model.cache_predictions}
    if not remembering:
        yield lambda model: model
        return
    from cache.metered import MeteredCache
    from cache.opening import open_configured
    from cache.prediction_cache import CachedModel
    from streams.clock import SystemClock

    ttl_s = settings.cache.ttl_s
    observer = MeteredCache(metrics, "predictions")
    cache = open_configured(settings.cache, SystemClock(), observer)
    try:
        yield (
            lambda model: (
                CachedModel(model, cache, ttl_s=ttl_s) if model.name in remembering else model
            )
        )
    finally:
        cache.close()
