"""`ensemble init`: a commented configuration to begin with."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_CONFIG
from streams.errors import ConfigurationError

# What `ensemble train` makes by default.
DEFAULT_MODELS = (
    "logistic_regression",
    "random_forest",
    "neural_network",
    "xgboost",
    "lightgbm",
)


def template(models: tuple[str, ...] = DEFAULT_MODELS, bundle: str = "", id_path: str = "") -> str:
    """The text of a configuration with those models, all in one worker."""
    text = files("cli").joinpath("ensemble.toml").read_text(encoding="utf-8")
    tables = "".join(f'[[models]]\nname = "{name}"\n\n' for name in models)
    listed = "".join(f'    "{name}",\n' for name in models)
    worker = f'[[workers]]\nname = "models"\nmodels = [\n{listed}]\n'
    text = text.replace("{models}", tables.rstrip("\n") + "\n").replace("{workers}", worker)
    if bundle:
        text = text.replace('# bundle = "bundle"', f"bundle = {_toml_text(bundle)}")
    if id_path:
        text = text.replace('# id = ""', f"id = {_toml_text(id_path)}")
    return text


def _toml_text(text: str) -> str:
    """A text as TOML: JSON's escapes are valid there."""
    import json

    return json.dumps(text, ensure_ascii=False)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = DEFAULT_CONFIG,
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle that `ensemble train` wrote: its models are filled in."),
    ] = None,
    id_: Annotated[str, typer.Option("--id", help="Where an event has its id.")] = "",
) -> None:
    """Write a commented configuration; what is there already is never overwritten."""
    if bundle is None:
        text = template(id_path=id_)
    else:
        from registry.bundle import load_manifest

        models = tuple(model.name for model in load_manifest(bundle).manifest.models)
        place = Path(os.path.relpath(bundle, path.parent)).as_posix()
        text = template(models, place, id_)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError(
            str(path), "exists already; expected a name that is free"
        ) from None
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be written: {error.strerror}") from error
    typer.echo(f"{path}: written; `ensemble check` says what is still to do")
