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
import numpy as np
from numpy.typing import NDArray

from streams.features import FeatureSchema

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1
# Enough of the SHA-256 to be unique among all bundles a team will ever build, short enough to read.
VERSION_CHARS = 12

ModelFormat = Literal["scikit-learn", "xgboost", "lightgbm", "onnx"]
Task = Literal["binary", "multiclass", "regression"]


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

    `golden` are its answers to the bundle's golden rows, for multi-class a number for each class:
    a loaded model that answers otherwise is not the model that was trained. `metrics` are those on
    the held-out part.
    """

    name: str
    format: ModelFormat
    artefact: Artefact
    golden: tuple[float | tuple[float, ...], ...]
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
    """A linear meta-model: one weight for each of its inputs."""

    intercept: float
    weights: tuple[float, ...]


class MetaInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input that a meta-model takes from the event itself, and not from a member.

    It is the feature in this column, or with `code` whether the feature is that category,
    centred by `mean` and divided by `scale`; 0 where the feature is missing.
    """

    feature: int
    mean: float
    scale: float
    code: int | None = None


class Stacking(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Meta-models by who is present.

    A member gives `columns` inputs: binary its log-odds, multi-class the logarithms of its
    probabilities, regression its value. `fits` maps a mask ("10111", one digit a member, in
    `members` order) to a fit, or for multi-class to one for each class, whose weights have
    `columns` numbers per *present* member, and then one for each of `inputs`. A mask without a
    fit of its own uses the full fit after the absent members' inputs are replaced by their
    expectation given the present ones, under the multivariate normal with `means` and
    `covariance` (of the members' inputs in training, member by member).
    """

    members: tuple[str, ...]
    fits: dict[str, StackingFit | tuple[StackingFit, ...]]
    means: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    columns: int = 1
    inputs: tuple[MetaInput, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.members) * self.columns
        shape = {len(self.means), len(self.covariance), *map(len, self.covariance)}
        if shape != {size}:
            raise ValueError(
                f"means and covariance of stacking are not of {len(self.members)} members"
            )
        for mask in self.fits:
            present = mask.count("1")
            expected = present * self.columns + len(self.inputs)
            wrong = {len(fit.weights) for fit in self.fits_of(mask)} != {expected}
            if len(mask) != len(self.members) or set(mask) - {"0", "1"} or wrong:
                raise ValueError(
                    f"fit {mask!r} of stacking does not match its {len(self.members)} members"
                )
        if "1" * len(self.members) not in self.fits:
            raise ValueError("stacking has no fit of all members")

    def fits_of(self, mask: str) -> tuple[StackingFit, ...]:
        """The fits for those present: one, or one for each class."""
        found = self.fits[mask]
        return found if isinstance(found, tuple) else (found,)


class DataFingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which data trained the ensemble, and what is known of an event before any model is asked.

    That is the share of positives for binary, of each class for multi-class, and the mean label
    for regression; the others are null.
    """

    sha256: str
    rows: int
    label: str
    positive_share: float | None = None
    class_shares: tuple[float, ...] | None = None
    mean: float | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `manifest.json`.

    Attributes:
        format: version of this file's layout.
        task: what is predicted.
        classes: for multi-class, the classes in the order of every answer's columns.
        schema: the feature columns, in the order models take them.
        models: the members, in order.
        calibrations: model → its calibration.
        stacking: the meta-model.
        quantiles: model → quantiles of its out-of-fold scores (its reference distribution), at
            evenly spaced levels from 0 to 1; for multi-class one such row for each class.
        blending: model → its weight in the optimised mean.
        quality: model → minus the loss of its out-of-fold answers; greater is better.
        stacking_with_features: the meta-model that sees the event's features, too.
        competence: the file that says where each member is good.
        certainty: the file that says how sure scores are, if training was asked for it.
        golden_rows: rows (floats, null is missing) every model answered at training.
        metrics: of the whole ensemble on the held-out part, by strategy.
        data: which data trained it.
        libraries: name → version at training.
    """

    schema: FeatureSchema
    models: tuple[ModelEntry, ...]
    calibrations: dict[str, Calibration]
    stacking: Stacking
    quantiles: dict[str, tuple[float | tuple[float, ...], ...]]
    golden_rows: tuple[tuple[float | None, ...], ...]
    metrics: dict[str, dict[str, float]]
    data: DataFingerprint
    libraries: dict[str, str]
    task: Task = "binary"
    classes: tuple[str, ...] = ()
    blending: dict[str, float] = {}
    quality: dict[str, float] = {}
    stacking_with_features: Stacking | None = None
    competence: Artefact | None = None
    certainty: Artefact | None = None
    format: int = MANIFEST_FORMAT

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """Every file of the bundle beside the manifest."""
        beside = [each for each in (self.competence, self.certainty) if each is not None]
        return (*(model.artefact for model in self.models), *beside)

    @property
    def columns(self) -> int:
        """How many numbers an answer has: one, or one for each class."""
        return len(self.classes) or 1

    @property
    def prior(self) -> tuple[float, ...]:
        """An answer that needs no model: the shares of classes, or the mean label."""
        data = self.data
        if self.task == "multiclass":
            return data.class_shares or ()
        found = data.positive_share if self.task == "binary" else data.mean
        return () if found is None else (found,)

    def __post_init__(self) -> None:
        self._check_task()
        names = [model.name for model in self.models]
        for values in (names, [a.path for a in self.artefacts], self.schema.names):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{twice[0]!r} stands twice")
        if any(len(row) != len(self.schema) for row in self.golden_rows):
            raise ValueError(f"a golden row has not {len(self.schema)} numbers")
        for model in self.models:
            if len(model.golden) != len(self.golden_rows):
                raise ValueError(f"model {model.name!r} has not one answer to each golden row")
        known = (self.calibrations, self.quantiles, self.blending, self.quality)
        for name in (*(name for each in known for name in each), *self.stacking.members):
            if name not in names:
                raise ValueError(f"no model {name!r}")

    def _check_task(self) -> None:
        if (self.task == "multiclass") != (len(self.classes) > 1):
            raise ValueError(f"task {self.task!r} with {len(self.classes)} classes")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands twice")
        if len(self.prior) != self.columns:
            raise ValueError(f"data has no prior for the task {self.task!r}")
        for stacking in (self.stacking, self.stacking_with_features):
            if stacking is not None and any(
                len(stacking.fits_of(mask)) != self.columns for mask in stacking.fits
            ):
                raise ValueError(f"a fit of stacking does not give {self.columns} numbers")

    def model(self, name: str) -> ModelEntry | None:
        """The model of that name, if there is one."""
        return next((model for model in self.models if model.name == name), None)

    def encode(self) -> bytes:
        """The bytes of `manifest.json`: the same content gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def golden_of(answers: NDArray[np.float64]) -> tuple[float | tuple[float, ...], ...]:
    """float64[N] or [N, K] answers as a model's entry has them."""
    rows = answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers
    if rows.ndim == 1:
        return tuple(rows.tolist())
    return tuple(map(tuple, rows.tolist()))


def version_of(manifest_bytes: bytes) -> str:
    """The ensemble's version: the head of the SHA-256 of its manifest."""
    return hashlib.sha256(manifest_bytes).hexdigest()[:VERSION_CHARS]
