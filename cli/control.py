"""`ensemble pause` and `resume`: take a model out of service, and bring it back."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption

ModelArgument = Annotated[str, typer.Argument(help="A model's name in the configuration.")]
# A broker that is there answers within milliseconds.
_TIMEOUT_S = 10.0


def pause(model: ModelArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Take a model out of service: its workers skip events until `ensemble resume`."""
    _tell(config, model, paused=True)
    typer.echo(f"{model}: paused")


def resume(model: ModelArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring a paused model back."""
    _tell(config, model, paused=False)
    typer.echo(f"{model}: resumed")


def _tell(config: Path, model: str, *, paused: bool) -> None:
    import msgspec

    from cli import logs
    from cli.configuration import load_settings
    from streams.errors import ConfigurationError
    from streams.records import ControlRecord
    from streams.sink import Sink

    logs.configure_command()
    settings = load_settings(config)
    names = [each.name for each in settings.models]
    if model not in names:
        raise ConfigurationError(model, f"no such model; expected one of {', '.join(names)}")
    if any(each.name == model and each.external for each in settings.models):
        raise ConfigurationError(
            model, "is external, and no worker of ours to obey; expected a model that has a worker"
        )
    sink = Sink(settings.kafka)
    record = ControlRecord(model, paused)
    sink.produce(settings.topics.control, value=msgspec.json.encode(record), key=model.encode())
    sink.flush(_TIMEOUT_S)
