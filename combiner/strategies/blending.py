"""Blending: the weighted mean whose weights were optimised on rows that no member had seen."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.additive import Additive
from combiner.strategies.arithmetic import weighed
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task
from streams.errors import ConfigurationError


class Blending(Additive):
    """A mean under learned weights, none of them negative, renormalised over those present.

    Weights that add up to 1 and are not negative generalise where free ones overfit (Breiman,
    "Stacked regressions", 1996). They minimise the log-loss of classifiers, and the squared error
    of regression.

    Args:
        weights: float64[M], not negative.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "blending"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, weights: Floats, threshold: float = 0.5) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the weights that the bundle holds.

        Raises:
            ConfigurationError: it holds none for a member.
        """
        known = ingredients.manifest.blending
        for member in ingredients.members:
            if member not in known:
                raise ConfigurationError(
                    "combiner.strategy",
                    f"the bundle holds no blending weight of `{member}`; expected it trained with "
                    "the bundle, `reserve = true` for it, or another strategy",
                )
        weights = [known.get(model, 0.0) for model in ingredients.models]
        return cls(np.array(weights), ingredients.threshold)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: weight times answer; they add up to the score."""
        return weighed(answers, present, self.weights)
