"""What strategies have in common whose contributions add up to the score itself."""

from abc import ABC, abstractmethod

from combiner.strategies.protocol import Bools, Floats


class Additive(ABC):
    """The score is the sum of what each member brings to it."""

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]."""
        total: Floats = self.contributions(answers, present, weights).sum(axis=1)
        return total

    @abstractmethod
    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: each member's share of the score, 0 where absent."""
