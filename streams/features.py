"""What a feature is, and in which order a model wants them."""

from typing import Literal

import msgspec

Kind = Literal["number", "boolean", "category"]


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column of the feature matrix.

    `path` leads to the value inside the event (`("payload", "amount")`); empty means the name
    itself, dots and all. A category's column holds the index of the value in `vocabulary`.
    A required feature that is missing or null makes the whole event bad; any other is NaN, and so
    is a category that the vocabulary does not hold.
    """

    name: str
    kind: Kind = "number"
    vocabulary: tuple[str, ...] = ()
    required: bool = True
    path: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Where the value is inside the event."""
        return self.path or (self.name,)


class FeatureSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of the feature matrix, in order."""

    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order."""
        return tuple(feature.name for feature in self.features)

    def __len__(self) -> int:
        return len(self.features)
