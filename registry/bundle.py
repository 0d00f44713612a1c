"""Bundles on disk: written whole or not at all, and read only if every byte is as it was written.

The hash of the manifest names the ensemble, the manifest holds the hash of every file, so a file
that was exchanged, cut short or added is found before any model library sees it.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from registry.certainty import Certainty, decode_certainty
from registry.competence import Competence, decode_competence
from registry.manifest import MANIFEST_FORMAT, MANIFEST_NAME, Artefact, Manifest, version_of
from streams.errors import BundleError

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class LoadedBundle:
    """A bundle whose manifest has been read and found well-formed.

    `version` is the ensemble's version: the content hash of the whole bundle.
    """

    directory: Path
    manifest: Manifest
    version: str


class _Header(msgspec.Struct):
    """What every layout of the manifest will keep."""

    format: int


def write_bundle(
    directory: Path, manifest: Manifest, artefacts: Mapping[str, bytes], *, replace: bool = False
) -> LoadedBundle:
    """Write a bundle; a reader sees all of it or nothing.

    With `replace` an older bundle at the same place goes; anything else is never overwritten.
    (Between the two renames of a replacement there is a moment without a bundle.)

    Raises:
        BundleError: the directory exists, or cannot be written.
    """
    listed = {artefact.path: artefact for artefact in manifest.artefacts}
    assert listed.keys() == artefacts.keys(), "the manifest must list exactly the artefacts"
    directory = directory.resolve()
    check_free(directory, replace=replace)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{directory.name}.", dir=directory.parent
        ) as scratch:
            fresh = Path(scratch, "new")
            fresh.mkdir()
            for path, data in artefacts.items():
                _check_hash(directory, listed[path], data)
                _write(fresh / path, data)
            _write(fresh / MANIFEST_NAME, manifest.encode())
            if directory.exists():
                directory.rename(old := Path(scratch, "old"))
                try:
                    fresh.rename(directory)
                except OSError:
                    old.rename(directory)
                    raise
            else:
                fresh.rename(directory)
    except OSError as error:
        raise BundleError(f"{directory}: cannot be written: {error}") from error
    return load_manifest(directory)


def load_manifest(directory: Path) -> LoadedBundle:
    """Read and check the manifest of a bundle; its files are checked as they are read.

    Raises:
        BundleError: there is no bundle, or its manifest is malformed; names the file and place.
    """
    path = directory / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"{path}: not found; expected a bundle written by `ensemble train`"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        found = msgspec.json.decode(data, type=_Header).format
        if found != MANIFEST_FORMAT:
            raise BundleError(f"{path}: format {found}; this version reads {MANIFEST_FORMAT}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: malformed: {error}") from error
    return LoadedBundle(directory, manifest, version_of(data))


def read_artefact(bundle: LoadedBundle, artefact: Artefact) -> bytes:
    """The bytes of a file of the bundle, exactly as they were written.

    Raises:
        BundleError: the file is missing, changed or outside the bundle; names the file.
    """
    path = bundle.directory / artefact.path
    try:
        if not path.resolve().is_relative_to(bundle.directory.resolve()):
            raise BundleError(f"{path}: leads out of the bundle")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing, though the manifest lists it") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    _check_hash(bundle.directory, artefact, data)
    return data


def read_competence(bundle: LoadedBundle) -> Competence | None:
    """Where each member is good; None if the bundle does not say.

    Raises:
        BundleError: the file is missing, changed or malformed; names it.
    """
    artefact = bundle.manifest.competence
    return None if artefact is None else _decoded(bundle, artefact, decode_competence)


def read_certainty(bundle: LoadedBundle) -> Certainty | None:
    """How sure the ensemble's scores are; None if the bundle does not say.

    Raises:
        BundleError: the file is missing, changed or malformed; names it.
    """
    artefact = bundle.manifest.certainty
    return None if artefact is None else _decoded(bundle, artefact, decode_certainty)


def _decoded(
    bundle: LoadedBundle, artefact: Artefact, decode: Callable[[bytes], Content]
) -> Content:
    data = read_artefact(bundle, artefact)
    try:
        return decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{bundle.directory / artefact.path}: malformed: {error}") from error


def verify(bundle: LoadedBundle) -> None:
    """Check every file of the bundle, and that there is none besides.

    Raises:
        BundleError: a file is missing, changed, or not listed; names the file.
    """
    listed = {PurePosixPath(MANIFEST_NAME)}
    for artefact in bundle.manifest.artefacts:
        read_artefact(bundle, artefact)
        listed.add(PurePosixPath(artefact.path))
    for path in sorted(bundle.directory.rglob("*")):
        inside = PurePosixPath(path.relative_to(bundle.directory).as_posix())
        if not path.is_dir() and inside not in listed:
            raise BundleError(f"{path}: not listed in the manifest")


def artefact_of(path: str, data: bytes) -> Artefact:
    """What the manifest says about a file."""
    return Artefact(path, hashlib.sha256(data).hexdigest())


def check_free(directory: Path, *, replace: bool = False) -> None:
    """Check that a bundle may be written here, before hours are spent on training it.

    Raises:
        BundleError: something is there that must not be overwritten.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise BundleError(f"{directory}: exists and is no directory")
    if not any(directory.iterdir()):
        return
    if not (directory / MANIFEST_NAME).is_file():
        raise BundleError(f"{directory}: exists and is no bundle; choose another directory")
    if not replace:
        raise BundleError(f"{directory}: a bundle exists already; say so to replace it")


def _check_hash(directory: Path, artefact: Artefact, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != artefact.sha256:
        raise BundleError(
            f"{directory / artefact.path}: changed: "
            f"SHA-256 is {found[:12]}…, the manifest says {artefact.sha256[:12]}…"
        )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
