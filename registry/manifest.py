"""What an ensemble bundle is: the content of its `manifest.json`, and the version that follows.

A bundle is a directory. Every file in it is named in the manifest with its SHA-256, and the hash
of the manifest itself is the ensemble's version: two bundles with one version are the same
ensemble, to the byte. So nothing in it may depend on when or where it was trained: the same data,
seed and library versions give the same version.

What must hold between the fields is checked where each struct is made, so that a manifest that
was edited by hand is refused with the place of the mistake.
"""

import hashlib
import re
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from streams.features import FeatureSchema

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1
# Enough of the SHA-256 to be unique among all bundles a team will ever build, short enough to read.
VERSION_CHARS = 12

ModelFormat = Literal["scikit-learn", "xgboost", "lightgbm", "onnx"]


class Artefact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle: its path inside it and the SHA-256 of its bytes."""

    path: str
    sha256: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in self.path or not parts.parts:
            raise ValueError(f"path {self.path!r} leads out of the bundle")
        if re.fullmatch(r"[0-9a-f]{64}", self.sha256) is None:
            raise ValueError(f"sha256 of {self.path!r} is not 64 hexadecimal digits")


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trained model.

    `golden` are its answers to the bundle's golden rows: a loaded model that answers otherwise
    is not the model that was trained. `metrics` are those on the held-out part.
    """

    name: str
    format: ModelFormat
    artefact: Artefact
    golden: tuple[float, ...]
    metrics: dict[str, float]

    @property
    def version(self) -> str:
        """The model's version: the head of its artefact's hash."""
        return self.artefact.sha256[:VERSION_CHARS]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A monotone map from a model's score to a probability: straight lines between knots.

    `scores` ascend strictly, `probabilities` never fall; both are of one length.
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.probabilities) or not self.scores:
            raise ValueError("scores and probabilities of a calibration differ in length")
        if any(later <= earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("scores of a calibration do not ascend")
        if any(later < earlier for earlier, later in pairwise(self.probabilities)):
            raise ValueError("probabilities of a calibration fall")


class StackingFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A meta-model over the logits of the members that are present."""

    intercept: float
    weights: tuple[float, ...]


class Stacking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Meta-models by who is present.

    `fits` maps a mask ("10111", one digit a member, in `members` order) to a fit whose weights
    have one number per *present* member. A mask without a fit of its own uses the full fit after
    the absent logits are replaced by their expectation given the present ones, under the
    multivariate normal with `means` and `covariance` (of the members' logits in training).
    """

    members: tuple[str, ...]
    fits: dict[str, StackingFit]
    means: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.members)
        shape = {len(self.means), len(self.covariance), *map(len, self.covariance)}
        if shape != {size}:
            raise ValueError(f"means and covariance of stacking are not of {size} members")
        for mask, fit in self.fits.items():
            if len(mask) != size or set(mask) - {"0", "1"} or mask.count("1") != len(fit.weights):
                raise ValueError(f"fit {mask!r} of stacking does not match its {size} members")
        if "1" * size not in self.fits:
            raise ValueError("stacking has no fit of all members")


class DataFingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which data trained the ensemble."""

    sha256: str
    rows: int
    label: str
    positive_share: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `manifest.json`.

    Attributes:
        format: version of this file's layout.
        schema: the feature columns, in the order models take them.
        models: the members, in order.
        calibrations: model → its calibration.
        stacking: the meta-model.
        quantiles: model → quantiles of its out-of-fold scores (its reference distribution), at
            evenly spaced levels from 0 to 1.
        golden_rows: rows (floats, null is missing) every model answered at training.
        metrics: of the whole ensemble on the held-out part, by strategy.
        data: which data trained it.
        libraries: name → version at training.
    """

    schema: FeatureSchema
    models: tuple[ModelEntry, ...]
    calibrations: dict[str, Calibration]
    stacking: Stacking
    quantiles: dict[str, tuple[float, ...]]
    golden_rows: tuple[tuple[float | None, ...], ...]
    metrics: dict[str, dict[str, float]]
    data: DataFingerprint
    libraries: dict[str, str]
    format: int = MANIFEST_FORMAT

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        for values in (names, [m.artefact.path for m in self.models], self.schema.names):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{twice[0]!r} stands twice")
        if any(len(row) != len(self.schema) for row in self.golden_rows):
            raise ValueError(f"a golden row has not {len(self.schema)} numbers")
        for model in self.models:
            if len(model.golden) != len(self.golden_rows):
                raise ValueError(f"model {model.name!r} has not one answer to each golden row")
        for name in (*self.calibrations, *self.quantiles, *self.stacking.members):
            if name not in names:
                raise ValueError(f"no model {name!r}")

    def model(self, name: str) -> ModelEntry | None:
        """The model of that name, if there is one."""
        return next((model for model in self.models if model.name == name), None)

    def encode(self) -> bytes:
        """The bytes of `manifest.json`: the same content gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def version_of(manifest_bytes: bytes) -> str:
    """The ensemble's version: the head of the SHA-256 of its manifest."""
    return hashlib.sha256(manifest_bytes).hexdigest()[:VERSION_CHARS]
