"""Hard voting with one vote a member."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.protocol import CLASSIFICATION, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


class EqualVote:
    """As `majority_vote`, ties included, but every vote counts alike.

    Args:
        members: M.
        vote_threshold: from which score on a member votes yes.
    """

    name: ClassVar[str] = "equal_vote"
    tasks: ClassVar[frozenset[Task]] = CLASSIFICATION
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"
    threshold: float = 0.5

    def __init__(self, members: int, vote_threshold: float = 0.5) -> None:
        self._vote = MajorityVote(np.ones(members), vote_threshold)

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """Members vote yes from the configured threshold on."""
        return cls(len(ingredients.models), ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]: shares of the votes, from 0 to 1."""
        return self._vote.combine(answers, present)

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: an equal share for each vote, where it went."""
        return self._vote.contributions(answers, present)
