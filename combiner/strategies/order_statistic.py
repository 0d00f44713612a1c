"""What strategies by rank share: a mean of the answers that stand at some places in their order."""

from typing import ClassVar

import numpy as np

from combiner.strategies.additive import Additive
from combiner.strategies.arithmetic import Ints, ordered, rescaled
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Scale
from registry.manifest import Task


class OrderStatistic(Additive):
    """The mean of the answers from one place in their order to another; weights play no part."""

    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def places(self, count: Ints) -> tuple[Ints, Ints]:
        """int64[N] each: the first place that counts, and the one behind the last.

        Args:
            count: int64[N], how many answers there are; the least one is at place 0.
        """
        raise AssertionError("each statistic has its own places")

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: the answers that count carry the score, an equal share each."""
        low, high = self.places(np.count_nonzero(present, axis=1))
        return rescaled(ordered(answers, present, low, high), answers, present)
