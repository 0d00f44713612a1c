"""The best member of those present, alone."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.additive import Additive
from combiner.strategies.arithmetic import only
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task
from streams.errors import ConfigurationError


class BestSingle(Additive):
    """The answer of the present member that was best in training, and of no other.

    What every other strategy has to beat. Quality is minus the loss of out-of-fold answers
    (log-loss for classifiers, mean squared error for regression); of equals the first holds.

    Args:
        quality: float64[M], greater is better.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "best_single"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, quality: Floats, threshold: float = 0.5) -> None:
        self.quality = quality
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the quality that the bundle holds.

        Raises:
            ConfigurationError: it holds none of a member.
        """
        known = ingredients.manifest.quality
        for member in ingredients.members:
            if member not in known:
                raise ConfigurationError(
                    "combiner.strategy",
                    f"best_single needs to know how good `{member}` was in training, and the "
                    "bundle does not say; expected it trained with the bundle, `reserve = true` "
                    "for it, or another strategy (first_to_answer takes the weights)",
                )
        quality = [known.get(model, -np.inf) for model in ingredients.models]
        return cls(np.array(quality), ingredients.threshold)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: the best one carries the score."""
        return only(answers, present, self.quality)
