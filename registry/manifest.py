"""What an ensemble bundle is: the content of its `manifest.json`, and the version that follows.

A bundle is a directory. Every file in it is named in the manifest with its SHA-256, and the hash
of the manifest itself is the ensemble's version: two bundles with one version are the same
ensemble, to the byte.
"""

import hashlib
from typing import Literal

import msgspec

from streams.features import FeatureSchema

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1
# Enough of the SHA-256 to be unique among all bundles a team will ever build, short enough to read.
VERSION_CHARS = 12

ModelFormat = Literal["scikit-learn", "xgboost", "lightgbm"]


class Artefact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle: its path inside it and the SHA-256 of its bytes."""

    path: str
    sha256: str


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
    """A monotone map from a model's score to a probability: straight lines between knots."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]


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
        created: ISO 8601.
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
    created: str
    format: int = MANIFEST_FORMAT

    def encode(self) -> bytes:
        """The bytes of `manifest.json`: the same content gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def version_of(manifest_bytes: bytes) -> str:
    """The ensemble's version: the head of the SHA-256 of its manifest."""
    return hashlib.sha256(manifest_bytes).hexdigest()[:VERSION_CHARS]
