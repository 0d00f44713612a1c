"""`ensemble add-model`: a model that was trained elsewhere, put into a bundle."""

from pathlib import Path
from typing import Annotated

import typer


def add_model(
    file: Annotated[Path, typer.Argument(help="The model: .onnx, .skops, .txt or .ubj.")],
    *,
    name: Annotated[str, typer.Option(help="What it is called in the bundle.")],
    bundle: Annotated[Path, typer.Option(help="The bundle to start from.")] = Path("bundle"),
    out: Annotated[
        Path | None, typer.Option(help="The new bundle's directory.  [default: the same]")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="A bundle at the same place may go.")
    ] = False,
) -> None:
    """Put a model into a bundle: the result has another version, its other models have not."""
    from lab.adding import add_model as add

    made = add(bundle, file, name, bundle if out is None else out, replace=replace)
    entry = made.manifest.model(name)
    assert entry is not None
    typer.echo(
        f"{made.directory}: version {made.version}, with {name} ({entry.format}, "
        f"version {entry.version}); stacking does not know it: choose another strategy, "
        "or make it a reserve"
    )
