"""`ensemble compile-models`: members turned into ONNX, as far as they answer alike."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.compiling import Compilation
    from registry.bundle import LoadedBundle

# A lone event; what a turn finds at some thousands of events a second; the largest batch.
_SIZES = (1, 50, 2000)


def compile_models(
    *,
    bundle: Annotated[Path, typer.Option(help="The bundle to start from.")] = Path("bundle"),
    out: Annotated[Path, typer.Option(help="The new bundle's directory.")] = Path(
        "bundle-compiled"
    ),
    models: Annotated[
        str, typer.Option(help="Which ones, with commas between.  [default: all]")
    ] = "",
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="How far an answer may be from the old one.")
    ] = 1e-5,
    data: Annotated[
        Path | None,
        typer.Option(help="A table of events on which answers are compared, too: CSV or Parquet."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="A bundle at the same place may go.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Turn a bundle's models into ONNX, which answers small batches in a fraction of the time.

    A model whose answers would differ by more than the tolerance, or that cannot be converted,
    stays as it is. The new bundle has another version.
    """
    from lab.compiling import chosen, probes
    from lab.compiling import compile_models as compile_them
    from lab.speed import microseconds_a_row
    from lab.table import encode, read_table
    from registry.bundle import check_free, load_manifest

    check_free(out, replace=replace)
    # Read before it may be replaced; a model takes as long wherever its file is by then.
    old = load_manifest(bundle)
    names = chosen(old, [name.strip() for name in models.split(",") if name.strip()])
    more = None if data is None else encode(read_table(data), old.manifest.schema)
    rows = probes(old.manifest)
    before = {name: microseconds_a_row(old, name, rows, _SIZES) for name in names}
    made, done = compile_them(bundle, out, names, tolerance=tolerance, more=more, replace=replace)
    after = {
        each.name: microseconds_a_row(made, each.name, rows, _SIZES)
        for each in done
        if each.difference is not None
    }
    report = _Report(made, done, before, after)
    typer.echo(report.json() if json else report.text())


@dataclass(frozen=True, slots=True)
class _Report:
    """What was made, what became of each model, and what a row cost before and after, in us."""

    made: "LoadedBundle"
    done: "Sequence[Compilation]"
    before: dict[str, list[float]]
    after: dict[str, list[float]]

    def json(self) -> str:
        import msgspec

        models = [
            asdict(each)
            | {
                "rows": _SIZES,
                "before_us": self.before[each.name],
                "after_us": self.after.get(each.name),
            }
            for each in self.done
        ]
        whole = {
            "bundle": str(self.made.directory),
            "version": self.made.version,
            "models": models,
        }
        return msgspec.json.encode(whole).decode()

    def text(self) -> str:
        width = max(len(each.name) for each in self.done)
        heads = [f"{size:,} {'row' if size == 1 else 'rows'}" for size in _SIZES]
        lines = [f"{'us a row, in batches of':{width}}" + "".join(f"{head:>20}" for head in heads)]
        for each in self.done:
            if each.difference is None:
                lines.append(f"{each.name:{width}}  stays {each.format}: {each.problem}")
                continue
            pairs = zip(self.before[each.name], self.after[each.name], strict=True)
            costs = "".join(f"{f'{old:.2f} -> {new:.2f}':>20}" for old, new in pairs)
            lines.append(f"{each.name:{width}}{costs}   answers within {each.difference:.1e}")
        return "\n".join([*lines, f"{self.made.directory}: version {self.made.version}"])
