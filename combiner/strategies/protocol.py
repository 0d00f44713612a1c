"""What a strategy is: the arithmetic that makes one answer of several.

Shapes, for N events, M members and K numbers an answer: K is 1 for a binary classifier (the
probability of the positive class) and for regression (the value), and the number of classes for
multi-class, whose answers are rows of probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from registry.manifest import Manifest, Task

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Scale = Literal["score", "log", "log_odds", "rank"]

ANY_TASK: frozenset[Task] = frozenset({"binary", "multiclass", "regression"})
CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What there is to make a strategy of.

    Attributes:
        models: the columns, in order.
        reserves: bool[M], which of them no strategy combines.
        weights: float64[M], the configured ones, not negative.
        threshold: from which score on a binary label is 1.
        trim_share: of the members present, cut off at each end by the trimmed mean.
        manifest: what training learned about the models.
    """

    models: Sequence[str]
    reserves: Bools
    weights: Floats
    threshold: float
    trim_share: float
    manifest: Manifest

    @property
    def members(self) -> list[str]:
        """The models that are no reserves."""
        return [model for model, r in zip(self.models, self.reserves, strict=True) if not r]


class Strategy(Protocol):
    """Combines the answers of whoever is present.

    Every strategy is defined for every non-empty subset of the members, and never treats an
    absent member as a member that answered zero. `answers` is float64[N, M, K], whose absent
    cells may hold anything (NaN, usually); `present` is bool[N, M] with at least one True in each
    row. Who was not selected for an event is not present. `weights`, float64[N, M] and not
    negative, stand for the configured ones where a selection of members weighs them by event;
    strategies that know no weights ignore them. Nothing that is given is changed, no row knows
    of another, and for multi-class each row of the result adds up to 1.

    Attributes:
        name: as in the configuration.
        tasks: what it is defined for.
        calibrated: whether `answers` are calibrated probabilities, or the models' raw ones.
        scale: on which contributions add up: to the `score`, its logarithm, its log-odds, or the
            mean `rank`. For multi-class the sums of logarithms and log-odds are those before the
            classes are made to add up to 1.
        threshold: the score from which on a binary label is 1.
    """

    name: ClassVar[str]
    tasks: ClassVar[frozenset[Task]]
    calibrated: ClassVar[bool]
    scale: Scale
    threshold: float

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """The strategy for one ensemble, of whose task it is known to be.

        Raises:
            ConfigurationError: the bundle does not hold what the strategy needs of a member.
        """
        ...

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]: the ensemble's answers."""
        ...

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: each member's share on `scale`, 0 where absent."""
        ...


@runtime_checkable
class UsesFeatures(Protocol):
    """A strategy that looks at the events themselves, too."""

    def given(self, features: Floats) -> Strategy:
        """The strategy for events with these float64[N, F] features, row by row; NaN is missing."""
        ...
