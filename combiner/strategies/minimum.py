"""The least answer: a case only if all members say so."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import Ints
from combiner.strategies.order_statistic import OrderStatistic
from combiner.strategies.protocol import Ingredients


class Minimum(OrderStatistic):
    """The least of the answers present; weights play no part.

    Of several classes each has its own least answer, and these are made to add up to 1 (the
    minimum rule of Kittler et al., 1998); where all are 0 the mean stands in.
    """

    name: ClassVar[str] = "minimum"

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """It needs nothing of the ensemble."""
        return cls(ingredients.threshold)

    def places(self, count: Ints) -> tuple[Ints, Ints]:
        """int64[N] each: the least one carries the score, the first of equal ones."""
        return np.zeros_like(count), np.ones_like(count)
