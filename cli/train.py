"""`ensemble train`: from a data file to a bundle."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import JsonOption

if TYPE_CHECKING:
    from lab.certainty import CertaintyOptions
    from lab.train import TrainedBundle


StrategyOption = Annotated[
    str, typer.Option(help="Whose scores calibration, coverage and threshold are about.")
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(help="Of the ensemble's scores: isotonic, platt or temperature."),
]
ConformalOption = Annotated[
    str | None,
    typer.Option(
        help="How prediction sets (lac, aps) or intervals (absolute, normalised) are made.  "
        "[default: lac, for regression absolute]"
    ),
]
CoverageOption = Annotated[
    float | None, typer.Option(help="How often prediction sets or intervals hold the truth.")
]
ThresholdOption = Annotated[
    str | None,
    typer.Option(help="Best for f1, mcc or youden, or cost:FALSE_POSITIVE,FALSE_NEGATIVE."),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="An older bundle at the same place may go.")
]
KeepOption = Annotated[
    bool, typer.Option("--keep", help="If there is a bundle already, do nothing.")
]
HoldoutOption = Annotated[
    float, typer.Option(min=0.0, max=0.9, help="Share of rows kept out, for the metrics.")
]
HoldoutOutOption = Annotated[
    Path | None, typer.Option(help="Where to write the rows kept out, as CSV (gzip too).")
]


class TaskName(StrEnum):
    """The tasks, as options."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


def train(
    data: Annotated[Path, typer.Argument(help="CSV (gzip too) or Parquet.")],
    *,
    label: Annotated[
        str, typer.Option("--label", "--target", help="The column to predict, see --task.")
    ],
    task: Annotated[
        TaskName | None,
        typer.Option(
            help="What the column holds: 0 and 1, or false and true (binary), three classes and "
            "more (multiclass), amounts (regression).  [default: by its values]"
        ),
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="A column that names the rows and is no feature.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The bundle's directory.")] = Path("bundle"),
    holdout: HoldoutOption = 0.2,
    holdout_out: HoldoutOutOption = None,
    folds: Annotated[int, typer.Option(min=2, max=100, help="Folds of cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Same file and seed, same bundle.")] = 0,
    members: Annotated[
        str | None, typer.Option(help="Names separated by commas.  [default: all five]")
    ] = None,
    strategy: StrategyOption = "stacking",
    calibration: CalibrationOption = None,
    conformal: ConformalOption = None,
    coverage: CoverageOption = None,
    threshold: ThresholdOption = None,
    replace: ReplaceOption = False,
    keep: KeepOption = False,
    json: JsonOption = False,
) -> None:
    """Train the members and what combines them; write a bundle."""
    if keep and _is_there(out):
        return
    from lab.progress import bars
    from lab.train import train_bundle

    names = [name.strip() for name in members.split(",")] if members is not None else None
    certainty = _certainty(strategy, calibration, conformal, coverage, threshold, task)
    with bars() as progress:
        trained = train_bundle(
            data,
            label,
            id_,
            out,
            task=task.value if task is not None else None,
            holdout=holdout,
            holdout_out=holdout_out,
            folds=folds,
            seed=seed,
            members=names,
            certainty=certainty,
            replace=replace,
            progress=progress,
        )
    _print_json(trained) if json else _print(trained)


def _certainty(
    strategy: str,
    calibration: str | None,
    conformal: str | None,
    coverage: float | None,
    threshold: str | None,
    task: TaskName | None,
) -> "CertaintyOptions | None":
    """What to learn about the ensemble's own scores; None is nothing."""
    if calibration is None and coverage is None and threshold is None:
        return None
    from lab.certainty import certainty_options

    of_amounts = task is TaskName.REGRESSION
    method = conformal or ("absolute" if of_amounts else "lac")
    return certainty_options(
        strategy, calibration, method, coverage, threshold, of_amounts=of_amounts
    )


def _is_there(out: Path) -> bool:
    from registry.bundle import load_manifest
    from registry.manifest import MANIFEST_NAME

    if not (out / MANIFEST_NAME).exists():
        return False
    typer.echo(f"{out}: version {load_manifest(out).version} is there already")
    return True


def _print_json(trained: "TrainedBundle") -> None:
    import msgspec

    found = {
        "bundle": str(trained.bundle.directory),
        "version": trained.bundle.version,
        "task": trained.bundle.manifest.task,
        "training_rows": trained.training_rows,
        "holdout_rows": trained.holdout_rows,
        "left_out": trained.left_out,
        "members": trained.members,
        "strategies": trained.strategies,
    }
    typer.echo(msgspec.json.encode(found).decode())


def _print(trained: "TrainedBundle") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rows = {**trained.members, **{f"ensemble: {k}": v for k, v in trained.strategies.items()}}
    columns = list(dict.fromkeys(name for metrics in rows.values() for name in metrics))
    if columns:
        table = Table("on the held-out rows", *columns, box=None)
        for name, metrics in rows.items():
            cells = (f"{metrics[c]:.4f}" if c in metrics else "" for c in columns)
            table.add_row(name, *cells)
        console.print(table)
    if trained.left_out:
        console.print(f"no features: {', '.join(trained.left_out)}", highlight=False)
    console.print(
        f"{trained.bundle.directory}: version {trained.bundle.version}, learned from "
        f"{trained.training_rows:,} rows, measured on {trained.holdout_rows:,}",
        highlight=False,
        soft_wrap=True,
    )
