"""The least answer: a case only if all members say so."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import ordered, rescaled
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class Minimum:
    """The least of the answers present; weights play no part.

    Of several classes each has its own least answer, and these are made to add up to 1 (the
    minimum rule of Kittler et al., 1998); where all are 0 the mean stands in.
    """

    name: ClassVar[str] = "minimum"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """It needs nothing of the ensemble."""
        return cls(ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]."""
        total: Floats = self.contributions(answers, present).sum(axis=1)
        return total

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: the least one carries the score, the first of equal ones."""
        count = np.count_nonzero(present, axis=1)
        shares = ordered(answers, present, np.zeros_like(count), np.ones_like(count))
        return rescaled(shares, answers, present)
