"""Median of the members that are present: one wild model cannot move it far."""

from typing import ClassVar, Self

from combiner.strategies.arithmetic import Ints
from combiner.strategies.order_statistic import OrderStatistic
from combiner.strategies.protocol import Ingredients


class Median(OrderStatistic):
    """The middle answer, or the mean of the two in the middle; weights play no part.

    Of several classes each has its own median, and these are made to add up to 1 (the median rule
    of Kittler et al., "On combining classifiers", 1998); where all are 0 the mean stands in.
    """

    name: ClassVar[str] = "median"

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """It needs nothing of the ensemble."""
        return cls(ingredients.threshold)

    def places(self, count: Ints) -> tuple[Ints, Ints]:
        """int64[N] each: the middle one, or the middle two."""
        return (count - 1) // 2, count // 2 + 1
