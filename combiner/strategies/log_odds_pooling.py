"""Weighted mean of log-odds: the geometric mean of odds (Satopää et al., 2014)."""

from typing import ClassVar, Self

from combiner.strategies.arithmetic import filled, logit, present_weights, sigmoid
from combiner.strategies.protocol import CLASSIFICATION, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class LogOddsPooling:
    """The probability whose odds are the weighted geometric mean of those present.

    Members far from one half count for more than in the arithmetic mean, and both classes are
    treated alike. Probabilities are clipped to a millionth from certainty. Multi-class: each
    class against the rest, made to add up to 1.

    Args:
        weights: float64[M], not negative.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "log_odds_pooling"
    tasks: ClassVar[frozenset[Task]] = CLASSIFICATION
    calibrated: ClassVar[bool] = True
    scale: Scale = "log_odds"

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
        pooled = sigmoid(self.contributions(answers, present, weights).sum(axis=1))
        if pooled.shape[1] > 1:
            pooled /= pooled.sum(axis=1, keepdims=True)
        return pooled

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: weight times log-odds, which add up to the score's log-odds."""
        shares = present_weights(self.weights if weights is None else weights, present)
        products: Floats = shares[:, :, None] * logit(filled(answers, present, 0.5))
        return products
