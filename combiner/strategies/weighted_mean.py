"""Weighted arithmetic mean: the linear opinion pool (Stone, 1961)."""

from typing import ClassVar, Self

from combiner.strategies.additive import Additive
from combiner.strategies.arithmetic import weighed
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class WeightedMean(Additive):
    """The mean under the given weights, renormalised over those present.

    Args:
        weights: float64[M], not negative.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "weighted_mean"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, weights: Floats, threshold: float = 0.5) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the configured weights."""
        return cls(ingredients.weights, ingredients.threshold)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: weight times answer; they add up to the score."""
        return weighed(answers, present, self.weights if weights is None else weights)
