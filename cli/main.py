"""The front door: `ensemble …`.

Each command lives in a module of its own and imports what is heavy when it runs, so that
`ensemble --help` answers at once. An error that is the user's or the surroundings' is one line
and an exit code (see `streams/errors.py`); anything else is a defect and shows its trace.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from cli.add_model import add_model
from cli.broker import broker
from cli.check import check
from cli.compile_models import compile_models
from cli.consume import consume
from cli.control import pause, resume
from cli.dead_letters import app as dead_letters
from cli.evaluate import evaluate
from cli.explain import explain
from cli.get import get
from cli.init import init
from cli.produce import produce
from cli.replay import replay
from cli.roles import combiner, monitor, worker
from cli.simulate import simulate
from cli.stopping import leave
from cli.topics import app as topics
from cli.train import train
from cli.up import up
from streams.errors import EnsembleError

DISTRIBUTION = "stream-ensemble"

app = typer.Typer(
    name="ensemble",
    help="Several models, one score within the deadline: a streaming ensemble scorer on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: drawing boxes takes longer than everything else before a command runs.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: list[Callable[..., None]] = [init, train, evaluate, add_model, compile_models, check]
if importlib.util.find_spec("cli.demo") is not None:
    _COMMANDS.append(importlib.import_module("cli.demo").demo)
_COMMANDS += [
    up,
    worker,
    combiner,
    monitor,
    broker,
    produce,
    consume,
    get,
    explain,
    pause,
    resume,
    simulate,
    replay,
]
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(topics, name="topics")
app.add_typer(dead_letters, name="dead-letters")


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{DISTRIBUTION} {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _print_version(wanted=value),
            is_eager=True,
            help="Show the version and leave.",
        ),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run a command and end the process; its entry point."""
    try:
        app(prog_name="ensemble")
    except EnsembleError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        leave(error.exit_code)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        leave(end.code or 0)
    leave(0)
