"""A model that was trained elsewhere, put into a bundle.

The bundle becomes another one, with another version. Its other models keep theirs, and so does
what combines them: stacking, calibration and reference quantiles know only the members they were
trained with.
"""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lab.trial import try_model
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
from streams.errors import BundleError, DataError

FORMATS: Mapping[str, ModelFormat] = {
    ".onnx": "onnx",
    ".skops": "scikit-learn",
    ".txt": "lightgbm",
    ".ubj": "xgboost",
}
# Module and distribution of the library that reads a format.
_LIBRARIES: Mapping[ModelFormat, tuple[tuple[str, str], ...]] = {
    "onnx": (("onnxruntime", "onnxruntime"),),
    "scikit-learn": (("sklearn", "scikit-learn"), ("skops", "skops")),
    "lightgbm": (("lightgbm", "lightgbm"),),
    "xgboost": (("xgboost", "xgboost"),),
}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


def add_model(
    bundle: Path, file: Path, name: str, out: Path, *, replace: bool = False
) -> LoadedBundle:
    """Write a bundle that has one more model.

    The file's ending tells its format (`FORMATS`). It is tried in a process of its own before
    anything here opens it, and must answer every golden row of the bundle with a finite number,
    or with one for each class.

    Args:
        bundle: the bundle to start from.
        file: the model.
        name: what it is called in the new bundle.
        out: where the new bundle goes; may be the old one's place, with `replace`.
        replace: whether a bundle that is there may go.

    Raises:
        DataError: the file cannot be read, or name or ending are of no use.
        BundleError: the bundle was changed or has such a model, or the file is none that fits.
    """
    check_free(out, replace=replace)
    format_ = FORMATS.get(file.suffix)
    if format_ is None:
        raise DataError(f"{file}: expected a file that ends with {', '.join(FORMATS)}")
    if not _NAME.fullmatch(name):
        raise DataError(f"{name!r}: expected a name of letters, digits, `.`, `_` and `-`")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    verify(old := load_manifest(bundle))
    manifest = old.manifest
    if manifest.model(name) is not None:
        raise BundleError(f"{bundle}: has a model {name!r} already; expected another name")
    rows = np.array(manifest.golden_rows, dtype=np.float64)
    try:
        answers = try_model(format_, data, rows, manifest.columns)
        _check(answers, rows, manifest)
    except BundleError as error:
        raise BundleError(f"{file}: {error}") from error
    path = f"models/{name}{file.suffix}"
    entry = ModelEntry(
        name=name,
        format=format_,
        artefact=artefact_of(path, data),
        golden=golden_of(answers),
        metrics={},
    )
    artefacts = {listed.path: read_artefact(old, listed) for listed in manifest.artefacts}
    libraries = manifest.libraries | _versions(format_)
    models = (*manifest.models, entry)
    new = msgspec.structs.replace(manifest, models=models, libraries=libraries)
    return write_bundle(out, new, artefacts | {path: data}, replace=replace)


def _check(answers: NDArray[np.float64], rows: NDArray[np.float64], manifest: Manifest) -> None:
    classes = len(manifest.classes)
    if answers.shape != ((len(rows), classes) if classes else (len(rows),)):
        raise BundleError(f"answers {len(rows)} golden rows with shape {answers.shape}")
    bad = np.flatnonzero(~np.isfinite(answers).reshape(len(rows), -1).all(axis=1))
    if len(bad):
        row = int(bad[0])
        gaps = [manifest.schema.names[i] for i in np.flatnonzero(np.isnan(rows[row])).tolist()]
        missing = f", in which {', '.join(gaps)} is missing" if gaps else ""
        raise BundleError(f"answers golden row {row} with {answers[row]}{missing}")


def _versions(format_: ModelFormat) -> dict[str, str]:
    return {
        name: str(importlib.import_module(module).__version__)
        for module, name in _LIBRARIES[format_]
    }
