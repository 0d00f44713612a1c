"""Weighted hard voting: each member names one class, and the score is the share of the votes."""

from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import filled, present_weights
from combiner.strategies.protocol import CLASSIFICATION, Bools, Floats, Ingredients, Scale
from registry.manifest import Task


def ballots(answers: Floats, present: Bools, vote_threshold: float) -> Floats:
    """float64[N, M, K] of 0 and 1: for what each present member votes.

    With one number an answer the vote is yes or no; else it is for the likeliest class, of equally
    likely ones for the first.
    """
    clean = filled(answers, present, -1.0)
    if answers.shape[2] == 1:
        named: Bools = clean >= vote_threshold
    else:
        named = clean.argmax(axis=2)[:, :, None] == np.arange(answers.shape[2])
    votes: Floats = (named & present[:, :, None]).astype(np.float64)
    return votes


class MajorityVote:
    """Hard voting, each vote with its member's weight.

    Binary: a member votes yes where its score reaches `vote_threshold`. The score is the weight
    of yes among those present, and the label is 1 from one half on: a tie says yes, because in the
    work this is made for a missed case costs more than a second look. Multi-class: each votes for
    its likeliest class, the scores are the classes' shares of the weight, and of equal classes
    the first holds, as for scikit-learn.

    Args:
        weights: float64[M], not negative.
        vote_threshold: from which score on a member votes yes.
    """

    name: ClassVar[str] = "majority_vote"
    tasks: ClassVar[frozenset[Task]] = CLASSIFICATION
    calibrated: ClassVar[bool] = True
    scale: Scale = "score"
    threshold: float = 0.5

    def __init__(self, weights: Floats, vote_threshold: float = 0.5) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.vote_threshold = vote_threshold

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the configured weights; members vote yes from the configured threshold on."""
        return cls(ingredients.weights, ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]: shares of the votes, from 0 to 1."""
        # Six times 1/12 is less than one half to a computer: rounding must not break a tie.
        shares = self.contributions(answers, present, weights).sum(axis=1)
        total: Floats = np.round(shares, 12)
        return total

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: the weight of each vote, where it went."""
        shares = present_weights(self.weights if weights is None else weights, present)
        votes: Floats = ballots(answers, present, self.vote_threshold)
        return shares[:, :, None] * votes
