"""The greatest answer: a case as soon as one member says so."""

from typing import ClassVar, Self

from combiner.strategies.arithmetic import Ints
from combiner.strategies.order_statistic import OrderStatistic
from combiner.strategies.protocol import Ingredients


class Maximum(OrderStatistic):
    """The greatest of the answers present; weights play no part.

    Of several classes each has its own greatest answer, and these are made to add up to 1 (the
    maximum rule of Kittler et al., 1998).
    """

    name: ClassVar[str] = "maximum"

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """It needs nothing of the ensemble."""
        return cls(ingredients.threshold)

    def places(self, count: Ints) -> tuple[Ints, Ints]:
        """int64[N] each: the greatest one carries the score, the last of equal ones."""
        return count - 1, count
