"""Weighted majority vote: each member says yes or no, and the score is the share of yes."""

import numpy as np

from combiner.strategies.protocol import Bools, Floats
from combiner.strategies.weighted_mean import present_weights


class MajorityVote:
    """Hard voting.

    A member votes yes where its score reaches `vote_threshold`. The score is the weight of yes
    among those present, and the label is 1 from one half on: a tie says yes, because in the work
    this is made for a missed case costs more than a second look.

    Args:
        weights: float64[M], not negative.
        vote_threshold: from which score on a member votes yes.
    """

    name = "majority_vote"
    calibrated = True
    threshold = 0.5

    def __init__(self, weights: Floats, vote_threshold: float = 0.5) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.vote_threshold = vote_threshold

    def combine(self, scores: Floats, present: Bools) -> Floats:
        """float64[N]: share of yes, from 0 to 1."""
        # Six times 1/12 is less than one half to a computer: rounding must not break a tie.
        total: Floats = np.round(self.contributions(scores, present).sum(axis=1), 12)
        return total

    def contributions(self, scores: Floats, present: Bools) -> Floats:
        """float64[N, M]: the weight of each yes."""
        votes = present & (scores >= self.vote_threshold)
        return present_weights(self.weights, present) * votes
