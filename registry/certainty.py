"""What training learned about the ensemble's own scores: the content of `certainty.json`.

It belongs to one strategy with equal weights, and it knows who is missing: a score made of two
members means something else than one made of five. Tables therefore go by subset. A key is a mask
with one digit a member ("10111"), or, for subsets that have no entry of their own, how many are
present ("#3").
"""

from itertools import pairwise
from typing import Literal

import msgspec

CERTAINTY_NAME = "certainty.json"

ConformalMethod = Literal["lac", "aps", "absolute", "normalised"]


class Curve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A monotone curve: straight lines between knots, flat outside them."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.probabilities) or not self.scores:
            raise ValueError("scores and probabilities of a curve differ in length")
        if any(later <= earlier for earlier, later in pairwise(self.scores)):
            raise ValueError("scores of a curve do not ascend")
        if any(later < earlier for earlier, later in pairwise(self.probabilities)):
            raise ValueError("probabilities of a curve fall")


class IsotonicFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="isotonic"):
    """A curve for each class (binary: for the positive one), kept `margin` away from 0 and 1."""

    curves: tuple[Curve, ...]
    margin: float


class PlattFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="platt"):
    """`1 / (1 + exp(slope x + intercept))` for each class (binary: for the positive one).

    `x` is the log-odds of a binary score, the logarithm of a class's probability otherwise.
    """

    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.slopes) != len(self.intercepts) or not self.slopes:
            raise ValueError("slopes and intercepts differ in length")


class TemperatureFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="temperature"):
    """Log-odds, or logarithms of probabilities, are multiplied by `beta`: one over temperature."""

    beta: float

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta {self.beta}; expected a number above 0")


CalibrationFit = IsotonicFit | PlattFit | TemperatureFit


class Quantile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quantile of nonconformity scores.

    Of the answers that lie exactly on it, the share `ties` belongs below: with it, coverage is
    exact even where scores are few.
    """

    value: float
    ties: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.ties <= 1.0:
            raise ValueError(f"ties {self.ties}; expected a share")


class Conformal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prediction sets or intervals that hold the truth with probability `coverage`.

    `floor` is added to the members' dispersion by which `normalised` intervals are scaled.
    """

    method: ConformalMethod
    coverage: float
    quantiles: dict[str, Quantile]
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.coverage < 1.0:
            raise ValueError(f"coverage {self.coverage}; expected it between 0 and 1")


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score from which on the label is 1, and what it was chosen for.

    `criterion` is `f1`, `mcc`, `youden`, or `cost:FALSE_POSITIVE,FALSE_NEGATIVE`; `value` is what
    it reached on the rows it was chosen on (of costs the mean per row).
    """

    criterion: str
    threshold: float
    value: float


class Certainty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `certainty.json`.

    Attributes:
        strategy: whose scores these are.
        members: in the order of the masks.
        calibrations: by subset; empty if scores are not calibrated.
        conformal: on scores before their calibration; None without.
        threshold: on scores after their calibration; None without.
    """

    strategy: str
    members: tuple[str, ...]
    calibrations: dict[str, CalibrationFit] = {}
    conformal: Conformal | None = None
    threshold: Threshold | None = None

    def __post_init__(self) -> None:
        for keys in (
            list(self.calibrations),
            list(self.conformal.quantiles if self.conformal else {}),
        ):
            for key in keys:
                mask = len(key) == len(self.members) and not set(key) - {"0", "1"}
                count = key.startswith("#") and key[1:].isdecimal()
                if not mask and not count:
                    raise ValueError(f"subset {key!r} is none of {len(self.members)} members")
            if keys and "1" * len(self.members) not in keys:
                raise ValueError("a table has no entry for all members")

    def encode(self) -> bytes:
        """The bytes of the file: the same content gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"


def decode_certainty(data: bytes) -> Certainty:
    """The content of the file. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Certainty)
