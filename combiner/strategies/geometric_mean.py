"""Weighted geometric mean: the logarithmic opinion pool (Genest & Zidek, 1986)."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import filled, logs, present_weights, softmax
from combiner.strategies.protocol import CLASSIFICATION, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class GeometricMean:
    """The geometric mean of probabilities under weights renormalised over those present.

    A member that is sure of "no" would veto everybody else for good, so probabilities count as no
    smaller than `CLIP` (a millionth). Binary: of the positive class, hence never above the
    arithmetic mean; what treats both classes alike is `log_odds_pooling`. Multi-class: of each
    class, made to add up to 1.

    Args:
        weights: float64[M], not negative.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "geometric_mean"
    tasks: ClassVar[frozenset[Task]] = CLASSIFICATION
    calibrated: ClassVar[bool] = True
    scale: Scale = "log"

    def __init__(self, weights: Floats, threshold: float = 0.5) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the configured weights."""
        return cls(ingredients.weights, ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]."""
        total = self.contributions(answers, present, weights).sum(axis=1)
        return softmax(total) if total.shape[1] > 1 else np.exp(total)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: weight times logarithm, which add up to the score's logarithm."""
        shares = present_weights(self.weights if weights is None else weights, present)
        products: Floats = shares[:, :, None] * logs(filled(answers, present, 1.0))
        return products
