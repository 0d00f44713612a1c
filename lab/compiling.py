"""Members turned into ONNX, whose runtime answers a few rows in a fraction of the time.

A call of XGBoost or of a forest takes a tenth of a millisecond before its first row, and in a
stream a batch has some tens of rows. What a model is turned into must answer as it did, which is
tried on rows made of the bundle's golden ones; a model that does not stays as it is. Features are
rounded to float32: where one lies that close to a tree's threshold, it may fall to the other side.
"""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

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
from workers.adapters import lightgbm, onnx, scikit_learn, xgboost
from workers.loading import load_model, load_models

Floats = NDArray[np.float64]

# Numbers of float32 have seven digits, and a hundred trees are added.
TOLERANCE = 1e-5
PROBES = 2000
_SEED = 0
# What writes ONNX, and what runs it.
_LIBRARIES = ("onnx", "onnxmltools", "onnxruntime", "skl2onnx")
_TRIALS = 5
_TRIAL_S = 0.02
_US_PER_S = 1e6


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
    _require_libraries()
    verify(old := load_manifest(bundle))
    manifest = old.manifest
    for name in names:
        if manifest.model(name) is None:
            known = ", ".join(model.name for model in manifest.models)
            raise BundleError(f"{bundle}: no model {name!r}; expected {known}")
    rows = probes(manifest) if more is None else np.vstack([probes(manifest), more])
    artefacts = {listed.path: read_artefact(old, listed) for listed in manifest.artefacts}
    entries, done = [], []
    for entry in manifest.models:
        if not names or entry.name in names:
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
        manifest, models=tuple(entries), libraries=manifest.libraries | _versions()
    )
    return write_bundle(out, new, artefacts, replace=replace), done


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
    if entry.format not in _CONVERTERS:
        return entry, Compilation(entry.name, entry.format, problem=f"is {entry.format}"), b""
    data = read_artefact(bundle, entry.artefact)
    before = load_model(ModelSettings(name=entry.name), bundle).predict(rows)
    columns = bundle.manifest.columns
    try:
        made = _CONVERTERS[entry.format](data, rows.shape[1], entry.name)
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


# -- each library's way ----------------------------------------------------------------------


def _from_scikit_learn(data: bytes, features: int, _name: str) -> bytes:
    from skl2onnx import to_onnx

    estimator = scikit_learn.estimator_of(data)
    # As a map from class to probability an answer would cost an object for each event.
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    made = to_onnx(estimator, np.zeros((1, features), np.float32), options=options)
    _lead_missing_values(made, estimator)
    return onnx.save(made)


def _lead_missing_values(made: Any, estimator: Any) -> None:
    """Send missing values down a forest as scikit-learn does; skl2onnx (1.20) sends all right."""
    forest = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    nodes = [node for node in made.graph.node if node.op_type.startswith("TreeEnsemble")]
    if not nodes or not hasattr(forest, "estimators_"):
        return
    [node] = nodes
    attributes = {attribute.name: attribute for attribute in node.attribute}
    to_left = [tree.tree_.missing_go_to_left for tree in forest.estimators_]
    places = zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True)
    found = [int(to_left[tree][place]) for tree, place in places]
    tracks = attributes.get("nodes_missing_value_tracks_true")
    if tracks is None:
        from onnx.helper import make_attribute

        node.attribute.append(make_attribute("nodes_missing_value_tracks_true", found))
    else:
        del tracks.ints[:]
        tracks.ints.extend(found)


def _from_xgboost(data: bytes, features: int, name: str) -> bytes:
    from onnxmltools.convert import convert_xgboost

    booster, trees = xgboost.booster_of(data)
    if trees:
        booster = booster[:trees]
    # The converter knows columns by their places, and wants names that say so.
    booster.feature_names = None
    return onnx.save(convert_xgboost(booster, name, initial_types=_inputs(features)))


def _from_lightgbm(data: bytes, features: int, name: str) -> bytes:
    from onnxmltools.convert import convert_lightgbm

    booster = lightgbm.booster_of(data)
    made = convert_lightgbm(booster, name, initial_types=_inputs(features), zipmap=False)
    return onnx.save(made)


def _inputs(features: int) -> list[tuple[str, Any]]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    return [("features", FloatTensorType([None, features]))]


_CONVERTERS: Mapping[ModelFormat, Callable[[bytes, int, str], bytes]] = {
    "scikit-learn": _from_scikit_learn,
    "xgboost": _from_xgboost,
    "lightgbm": _from_lightgbm,
}


def _require_libraries() -> None:
    for library in _LIBRARIES:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise BundleError(
                f"compiling needs the library {library!r}; "
                "install it with the extra `compile` of this product"
            ) from error


def _versions() -> dict[str, str]:
    return {name: str(importlib.import_module(name).__version__) for name in _LIBRARIES}


# -- how fast --------------------------------------------------------------------------------


def microseconds_a_row(bundle: LoadedBundle, name: str, sizes: Sequence[int]) -> list[float]:
    """What a row takes a member on this machine, in batches of each size; the best of some tries.

    Raises:
        BundleError: the model cannot be loaded.
    """
    [model] = load_models([ModelSettings(name=name)], bundle)
    rows = probes(bundle.manifest)
    found = []
    for size in sizes:
        batch = np.ascontiguousarray(np.resize(rows, (size, rows.shape[1])))
        best_s = np.inf
        for _ in range(_TRIALS):
            calls, began_s = 0, time.perf_counter()
            while (spent_s := time.perf_counter() - began_s) < _TRIAL_S:
                model.predict(batch)
                calls += 1
            best_s = min(best_s, spent_s / calls)
        found.append(best_s / size * _US_PER_S)
    return found
