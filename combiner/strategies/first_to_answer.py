"""Whoever has answered, and of several the one that is worth most."""

from typing import ClassVar, Self

from combiner.strategies.additive import Additive
from combiner.strategies.arithmetic import only
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class FirstToAnswer(Additive):
    """The answer of the present member with the greatest value, and of no other.

    The values are the members' weights, chosen by whoever configures them: what an answer of this
    member is worth once it is there. With a quorum that one answer fills, an event leaves with
    the first. Of members of equal value the first in the configuration holds.

    Args:
        values: float64[M], greater is better.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "first_to_answer"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, values: Floats, threshold: float = 0.5) -> None:
        self.values = values
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the configured weights."""
        return cls(ingredients.weights, ingredients.threshold)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: the chosen one carries the score."""
        return only(answers, present, self.values if weights is None else weights)
