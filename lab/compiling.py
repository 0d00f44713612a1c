"""Members turned into ONNX, whose runtime answers a few rows in a fraction of the time.

A call of XGBoost or of a forest takes a tenth of a millisecond before its first row, and in a
stream a batch has some tens of rows. What a model is turned into must answer as it did, which is
tried on rows made of the bundle's golden ones; a model that does not stays as it is. Features are
rounded to float32: where one lies that close to a tree's threshold, it may fall to the other side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lab.to_onnx import CONVERTERS, library_versions, require_libraries
from registry.bundle import (
    LoadedBundle,
    artefact_of,
    check_free,
    load_manifest,
    read_artefact,
    verify,
    write_bundle,
)
from registry.manifest import Manifest, ModelEntry, ModelFormat, golden_of
from streams.errors import BundleError
from streams.features import Feature
from streams.settings import ModelSettings
from workers.adapters import onnx
from workers.loading import load_model

Floats = NDArray[np.float64]

# Numbers of float32 have seven digits, and a hundred trees are added.
TOLERANCE = 1e-5
PROBES = 2000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Compilation:
    """What became of a model.

    Attributes:
        name: the model.
        format: what it was.
        difference: the largest one of an answer, absolute; None if it stays as it is.
        problem: why it stays as it is.
    """

    name: str
    format: ModelFormat
    difference: float | None = None
    problem: str = ""


def compile_models(
    bundle: Path,
    out: Path,
    names: Sequence[str] = (),
    *,
    tolerance: float = TOLERANCE,
    more: Floats | None = None,
    replace: bool = False,
) -> tuple[LoadedBundle, list[Compilation]]:
    """Write a bundle whose members are ONNX models, as far as they answer alike.

    What combines the members stays as it was trained.

    Args:
        bundle: the bundle to start from.
        out: where the new bundle goes; may be the old one's place, with `replace`.
        names: which models; all of them if there are none.
        tolerance: how far an answer may be from the old one; where answers are larger than 1, so
            much of the largest.
        more: float64[N, F], rows to compare answers on beside `probes`.
        replace: whether a bundle that is there may go.

    Raises:
        BundleError: the bundle was changed, has no such model, or none that can be compiled; or a
            library is not installed.
    """
    check_free(out, replace=replace)
    require_libraries()
    verify(old := load_manifest(bundle))
    manifest, wanted = old.manifest, chosen(old, names)
    rows = probes(manifest) if more is None else np.vstack([probes(manifest), more])
    artefacts = {listed.path: read_artefact(old, listed) for listed in manifest.artefacts}
    entries, done = [], []
    for entry in manifest.models:
        if entry.name in wanted:
            made, compilation, data = _compiled(old, entry, rows, tolerance)
            if data:
                del artefacts[entry.artefact.path]
                artefacts[made.artefact.path] = data
            done.append(compilation)
            entries.append(made)
        else:
            entries.append(entry)
    if all(compilation.difference is None for compilation in done):
        reasons = "; ".join(f"{each.name}: {each.problem}" for each in done)
        raise BundleError(f"{bundle}: no model can be compiled: {reasons}")
    new = msgspec.structs.replace(
        manifest, models=tuple(entries), libraries=manifest.libraries | library_versions()
    )
    return write_bundle(out, new, artefacts, replace=replace), done


def chosen(bundle: LoadedBundle, names: Sequence[str]) -> list[str]:
    """These models of a bundle; all of them if there are none.

    Raises:
        BundleError: it has no model of such a name.
    """
    known = [model.name for model in bundle.manifest.models]
    for name in names:
        if name not in known:
            raise BundleError(f"{bundle.directory}: no model {name!r}; expected {', '.join(known)}")
    return list(names) or known


def probes(manifest: Manifest) -> Floats:
    """float64[N, F]: the golden rows, and rows whose features are drawn from theirs.

    Numbers are moved by about as much as they vary; categories are any of the vocabulary.

    Raises:
        BundleError: the bundle has no golden rows.
    """
    golden = np.array(manifest.golden_rows, dtype=np.float64)
    if not len(golden):
        raise BundleError("the bundle has no golden rows to compare answers on")
    chance = np.random.default_rng(_SEED)
    columns = zip(manifest.schema.features, golden.T, strict=True)
    drawn = [_drawn(feature, values, chance) for feature, values in columns]
    return np.vstack([golden, np.column_stack(drawn)])


def _drawn(feature: Feature, values: Floats, chance: np.random.Generator) -> Floats:
    drawn: Floats = chance.choice(values, PROBES)
    if feature.kind == "category":
        missing = np.isnan(drawn)
        drawn = chance.integers(0, max(1, len(feature.vocabulary)), PROBES).astype(np.float64)
        drawn[missing] = np.nan
    elif feature.kind == "number":
        known = values[~np.isnan(values)]
        drawn += chance.normal(0.0, float(known.std()) if len(known) else 0.0, PROBES)
    return drawn


def _compiled(
    bundle: LoadedBundle, entry: ModelEntry, rows: Floats, tolerance: float
) -> tuple[ModelEntry, Compilation, bytes]:
    """Its new entry, what is to be said of it, and its bytes, which are none if it stays."""
    if entry.format not in CONVERTERS:
        return entry, Compilation(entry.name, entry.format, problem=f"is {entry.format}"), b""
    data = read_artefact(bundle, entry.artefact)
    before = load_model(ModelSettings(name=entry.name), bundle).predict(rows)
    columns = bundle.manifest.columns
    try:
        made = CONVERTERS[entry.format](data, rows.shape[1], entry.name)
        model = onnx.load(
            made, name=entry.name, version="", minimum=None, maximum=None, columns=columns
        )
        after = np.asarray(model.predict(rows), dtype=np.float64)
    except Exception as error:  # noqa: BLE001 -- converters raise anything about what they lack
        said = str(error).strip().partition("\n")[0]
        problem = f"cannot be converted: {type(error).__name__}: {said}"
        return entry, Compilation(entry.name, entry.format, problem=problem), b""
    if problem := _otherwise(before, after, tolerance):
        return entry, Compilation(entry.name, entry.format, problem=problem), b""
    golden = golden_of(after[: len(entry.golden)])
    artefact = artefact_of(f"models/{entry.name}.onnx", made)
    replaced = msgspec.structs.replace(entry, format="onnx", artefact=artefact, golden=golden)
    difference = float(np.abs(after - before).max())
    return replaced, Compilation(entry.name, entry.format, difference), made


def _otherwise(before: Floats, after: Floats, tolerance: float) -> str:
    """How answers differ by more than they may; empty if they do not."""
    if before.shape != after.shape:
        return f"answers with shape {after.shape} instead of {before.shape}"
    apart = np.abs(after - before).reshape(len(before), -1).max(axis=1)
    # What is no number is as far away as can be.
    wrong = ~(apart <= tolerance * max(1.0, float(np.abs(before).max())))
    if not wrong.any():
        return ""
    furthest = float(apart[wrong].max())
    return f"answers {int(wrong.sum())} of {len(wrong)} rows otherwise, by up to {furthest:.2g}"
