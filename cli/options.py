"""Options that several commands share, each defined once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="ENSEMBLE_CONFIG",
        help="The configuration file.",
        show_default=True,
    ),
]
DEFAULT_CONFIG = Path("ensemble.toml")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SlotOption = Annotated[
    str,
    typer.Option(
        "--slot",
        envvar="ENSEMBLE_SLOT",
        help="A name that no other process of this role has, and that stays over restarts.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65_535,
        help="Port of the Prometheus metrics; 0 picks a free one.  [default: configuration]",
        show_default=False,
    ),
]
