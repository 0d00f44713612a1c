"""`ensemble worker`, `combiner` and `monitor`: one role in this process."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, MetricsPortOption, SlotOption


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

    settings = load_settings(config)
    logs.configure(f"worker-{name}-{slot}", settings)
    allow_user_modules(config)
    from workers.service import run_worker

    run_worker(settings, name, slot, metrics_port=metrics_port)


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
    from combiner.service import run_combiner

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
