"""Weighted arithmetic mean of the members that are present."""

import numpy as np

from combiner.strategies.protocol import Bools, Floats


def present_weights(weights: Floats, present: Bools) -> Floats:
    """float64[N, M]: weights of the present members, each row's sum 1.

    Where all present members weigh nothing they count alike, for some answer must come.
    """
    shares: Floats = weights * present
    totals = shares.sum(axis=1, keepdims=True)
    if not totals.all():
        shares = np.where(totals > 0, shares, present.astype(np.float64))
        totals = shares.sum(axis=1, keepdims=True)
    normalised: Floats = shares / totals
    return normalised


class WeightedMean:
    """The mean under the given weights, renormalised over those present.

    Args:
        weights: float64[M], not negative.
        threshold: the score from which on the label is 1.
    """

    name = "weighted_mean"
    calibrated = True

    def __init__(self, weights: Floats, threshold: float = 0.5) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.threshold = threshold

    def combine(self, scores: Floats, present: Bools) -> Floats:
        """float64[N]."""
        total: Floats = self.contributions(scores, present).sum(axis=1)
        return total

    def contributions(self, scores: Floats, present: Bools) -> Floats:
        """float64[N, M]: weight times score; they add up to the score."""
        return present_weights(self.weights, present) * np.where(present, scores, 0.0)
