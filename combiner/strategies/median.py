"""Median of the members that are present: one wild model cannot move it far."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import ordered, rescaled
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class Median:
    """The middle answer, or the mean of the two in the middle; weights play no part.

    Of several classes each has its own median, and these are made to add up to 1 (the median rule
    of Kittler et al., "On combining classifiers", 1998); where all are 0 the mean stands in.
    """

    name: ClassVar[str] = "median"
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
        """float64[N, M, K]: the middle one carries the score, or the middle two half of it each."""
        count = np.count_nonzero(present, axis=1)
        shares = ordered(answers, present, (count - 1) // 2, count // 2 + 1)
        return rescaled(shares, answers, present)
