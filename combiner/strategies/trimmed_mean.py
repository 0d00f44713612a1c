"""Trimmed mean (Tukey): the mean without the least and the greatest answers."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import Ints
from combiner.strategies.order_statistic import OrderStatistic
from combiner.strategies.protocol import Ingredients


class TrimmedMean(OrderStatistic):
    """The mean of those present after a share of them is cut off at each end.

    Of n members the `trim_share` times n least are left out, rounded down, and as many of the
    greatest; weights play no part. Classes are trimmed each by itself and made to add up to 1.

    Args:
        trim_share: at least 0 and below one half.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "trimmed_mean"

    def __init__(self, trim_share: float = 0.2, threshold: float = 0.5) -> None:
        super().__init__(threshold)
        assert 0.0 <= trim_share < 0.5
        self.trim_share = trim_share

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the configured share."""
        return cls(ingredients.trim_share, ingredients.threshold)

    def places(self, count: Ints) -> tuple[Ints, Ints]:
        """int64[N] each: the all but those cut off at each end."""
        # A fifth of five is one, whatever a computer makes of 0.2.
        cut = np.floor(self.trim_share * count + 1e-9).astype(np.int64)
        return cut, count - cut
