"""Median of the members that are present: one wild model cannot move it far."""

import numpy as np

from combiner.strategies.protocol import Bools, Floats


class Median:
    """The middle score, or the mean of the two in the middle; weights play no part."""

    name = "median"
    calibrated = True

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def combine(self, scores: Floats, present: Bools) -> Floats:
        """float64[N]."""
        total: Floats = self.contributions(scores, present).sum(axis=1)
        return total

    def contributions(self, scores: Floats, present: Bools) -> Floats:
        """float64[N, M]: the middle one carries the score, or the middle two half of it each."""
        ordered = np.argsort(np.where(present, scores, np.inf), axis=1, kind="stable")
        count = np.count_nonzero(present, axis=1)
        rows = np.arange(len(scores))
        shares = np.zeros(scores.shape)
        for middle in ((count - 1) // 2, count // 2):
            column = ordered[rows, middle]
            shares[rows, column] += scores[rows, column] / 2
        return shares
