"""What a score is by task, and which label it has.

A label is a place: 0 or 1 for binary, that of the class for multi-class, and `NO_LABEL` for
regression, whose scores are amounts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.latest import NO_LABEL
from registry.manifest import Task

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an ensemble predicts; `classes` are named for multi-class only."""

    task: Task = "binary"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert (self.task == "multiclass") == bool(self.classes)

    @property
    def columns(self) -> int:
        """How many numbers a score has."""
        return len(self.classes) or 1

    def labels(self, scores: Floats, threshold: float) -> Ints:
        """int64[...] for float64[..., K]: the greatest class, of equal ones the first."""
        if self.task == "binary":
            return (scores[..., 0] >= threshold).astype(np.int64)
        if self.task == "multiclass":
            return np.asarray(scores.argmax(axis=-1), dtype=np.int64)
        return np.full(scores.shape[:-1], NO_LABEL, dtype=np.int64)

    def shown_labels(self, labels: Ints) -> Sequence[int | str | None]:
        """N labels as records have them."""
        places: list[int] = labels.tolist()
        if self.task == "binary":
            return places
        names = self.classes
        return [names[place] if names else None for place in places]

    def shown_scores(self, scores: Floats, labels: Ints) -> list[float]:
        """N scores in one number: of several classes the label's."""
        if self.columns == 1:
            only: list[float] = scores[:, 0].tolist()
            return only
        chosen: list[float] = scores[np.arange(len(scores)), labels].tolist()
        return chosen

    def by_class(self, row: Sequence[float]) -> dict[str, float]:
        """K numbers by the names of their classes."""
        return dict(zip(self.classes, row, strict=True))

    def in_order(self, found: Mapping[str, float]) -> list[float] | None:
        """K numbers from `by_class`; None if they are of other classes."""
        if found.keys() != set(self.classes):
            return None
        return [found[name] for name in self.classes]


BINARY = Outcome()
