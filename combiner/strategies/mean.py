"""Arithmetic mean of the members that are present, whatever they weigh."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.additive import Additive
from combiner.strategies.arithmetic import weighed
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class Mean(Additive):
    """The mean of those present; weights play no part.

    Hard to beat where members are alike in quality (Clemen, "Combining forecasts", 1989).
    """

    name: ClassVar[str] = "mean"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """It needs nothing of the ensemble."""
        return cls(ingredients.threshold)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: an equal share of each answer; they add up to the score."""
        return weighed(answers, present, np.ones(present.shape[1]))
