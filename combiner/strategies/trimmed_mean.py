"""Trimmed mean (Tukey): the mean without the least and the greatest answers."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import ordered, rescaled
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class TrimmedMean:
    """The mean of those present after a share of them is cut off at each end.

    Of n members the `trim_share` times n least are left out, rounded down, and as many of the
    greatest; weights play no part. Classes are trimmed each by itself and made to add up to 1.

    Args:
        trim_share: at least 0 and below one half.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "trimmed_mean"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, trim_share: float = 0.2, threshold: float = 0.5) -> None:
        assert 0.0 <= trim_share < 0.5
        self.trim_share = trim_share
        self.threshold = threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the configured share."""
        return cls(ingredients.trim_share, ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]."""
        total: Floats = self.contributions(answers, present).sum(axis=1)
        return total

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: an equal share of each answer left; they add up to the score."""
        count = np.count_nonzero(present, axis=1)
        # A fifth of five is one, whatever a computer makes of 0.2.
        cut = np.floor(self.trim_share * count + 1e-9).astype(np.int64)
        return rescaled(ordered(answers, present, cut, count - cut), answers, present)
