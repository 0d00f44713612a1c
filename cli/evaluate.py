"""`ensemble evaluate`: every way to combine against the best single model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import JsonOption

if TYPE_CHECKING:
    from combiner.selections import Segmentation
    from lab.evaluation import Evaluation


def evaluate(
    data: Annotated[Path, typer.Argument(help="CSV (gzip too) or Parquet.")],
    *,
    label: Annotated[str, typer.Option(help="The column to predict: 0 and 1, or false and true.")],
    id_: Annotated[
        str | None, typer.Option("--id", help="A column that names the rows and is no feature.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("evaluation"),
    repeats: Annotated[int, typer.Option(min=1, max=100, help="How often rows are split.")] = 2,
    folds: Annotated[int, typer.Option(min=2, max=100, help="Parts of each split.")] = 5,
    inner_folds: Annotated[
        int, typer.Option(min=2, max=100, help="Folds of cross-validation in each training.")
    ] = 5,
    drop: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="How likely a member is missing.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Same file and seed, same report.")] = 0,
    members: Annotated[
        str | None, typer.Option(help="Names separated by commas.  [default: all five]")
    ] = None,
    cheap: Annotated[
        str | None,
        typer.Option(help="Cheap members of a cascade, separated by commas.  [default: none]"),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(help="FEATURE=EDGE,EDGE: ranges with weights of their own."),
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw the findings; needs matplotlib.")] = True,
    json: JsonOption = False,
) -> None:
    """Compare strategies, selections and calibrations by repeated cross-validation."""
    from lab.evaluation import EvaluationOptions, evaluate_data
    from lab.progress import bars

    options = EvaluationOptions(
        repeats, folds, inner_folds, drop, seed, _names(members), _names(cheap) or (),
        _segments(segments),
    )  # fmt: skip
    _check_out(out)
    with bars() as progress:
        found = evaluate_data(data, label, id_, options, progress)
    written = _write(found, out, plots=plots)
    if json:
        import msgspec

        whole = {"written": written, "folds": [fold.whole for fold in found.folds]}
        typer.echo(msgspec.json.encode(whole).decode())
    else:
        typer.echo("\n".join(written))


def _write(found: "Evaluation", out: Path, *, plots: bool) -> list[str]:
    from lab.report import markdown

    page = out / "evaluation.md"
    page.write_text(markdown(found), encoding="utf-8")
    written = [page]
    if plots:
        from lab.plots import draw

        written += draw(found, out)
    return [str(path) for path in written]


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(","))


def _segments(text: str | None) -> "Segmentation | None":
    from combiner.selections import Segmentation
    from streams.errors import DataError

    if text is None:
        return None
    feature, _, edges = text.rpartition("=")
    try:
        return Segmentation(f"feature:{feature}", edges=tuple(float(e) for e in edges.split(",")))
    except ValueError:
        raise DataError(f"segments {text!r}; expected FEATURE=EDGE,EDGE") from None


def _check_out(out: Path) -> None:
    from streams.errors import DataError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error
