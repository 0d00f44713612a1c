"""Stacking: a logistic meta-model over the members' log-odds (Wolpert, 1992), for any subset.

A meta-model that was trained with all members says nothing sensible when one of them is missing:
setting its term to zero claims that it answered one half. Therefore each subset has a meta-model
of its own, trained on the same out-of-fold answers without the missing members. Where there are
too many subsets for that, the absent log-odds are replaced by their expectation given the present
ones under a multivariate normal, and the full meta-model is used; both are linear in what is
present, so any subset is one intercept and one weight for each present member.
"""

import numpy as np

from combiner.strategies.protocol import Bools, Floats
from registry.manifest import Stacking

# Beyond these a probability says no more than "certain", and its log-odds would drown the rest.
CLIP = 1e-6


def logit(probabilities: Floats) -> Floats:
    """Log-odds of clipped probabilities, any shape."""
    clipped = np.clip(probabilities, CLIP, 1.0 - CLIP)
    return np.log(clipped / (1.0 - clipped))


class StackedLogistic:
    """Stacking with one logistic meta-model for each subset of members.

    Args:
        fit: the trained meta-models.
        columns: the column of each of the fit's members; other columns play no part.
        threshold: the score from which on the label is 1.

    A row in which none of the fit's members is present gets the mean of the scores that are.
    """

    name = "stacking"
    calibrated = False

    def __init__(self, fit: Stacking, columns: list[int], threshold: float = 0.5) -> None:
        assert len(columns) == len(fit.members)
        self.threshold = threshold
        self._fit = fit
        self._columns = np.array(columns)
        self._bits = 2 ** np.arange(len(columns), dtype=np.int64)
        self._linear: dict[int, tuple[float, Floats]] = {}

    def combine(self, scores: Floats, present: Bools) -> Floats:
        """float64[N]: probabilities."""
        terms, intercepts, known = self._terms(scores, present)
        combined: Floats = 1.0 / (1.0 + np.exp(-(terms.sum(axis=1) + intercepts)))
        if not known.all():
            others = ~known
            counts = np.count_nonzero(present[others], axis=1)
            sums = np.where(present[others], scores[others], 0.0).sum(axis=1)
            combined[others] = sums / counts
        return combined

    def contributions(self, scores: Floats, present: Bools) -> Floats:
        """float64[N, M]: each member's share of the log-odds; the intercept is nobody's."""
        terms, _, _ = self._terms(scores, present)
        shares = np.zeros(scores.shape)
        shares[:, self._columns] = terms
        return shares

    def _terms(self, scores: Floats, present: Bools) -> tuple[Floats, Floats, Bools]:
        """float64[N, S] weighted log-odds, float64[N] intercepts, bool[N] any member present."""
        here = present[:, self._columns]
        logits = np.where(here, logit(np.where(here, scores[:, self._columns], 0.5)), 0.0)
        masks = here @ self._bits
        weights = np.zeros(logits.shape)
        intercepts = np.zeros(len(scores))
        for mask in np.unique(masks).tolist():
            rows = masks == mask
            intercepts[rows], weights[rows] = self._linear_of(mask)
        return logits * weights, intercepts, masks != 0

    def _linear_of(self, mask: int) -> tuple[float, Floats]:
        """Intercept and float64[S] weights for one subset."""
        if mask not in self._linear:
            here = (mask & self._bits) != 0
            text = "".join("1" if bit else "0" for bit in here)
            weights = np.zeros(len(here))
            if mask == 0:
                self._linear[mask] = (0.0, weights)
            elif text in self._fit.fits:
                own = self._fit.fits[text]
                weights[here] = own.weights
                self._linear[mask] = (own.intercept, weights)
            else:
                self._linear[mask] = self._conditional(here)
        return self._linear[mask]

    def _conditional(self, here: Bools) -> tuple[float, Floats]:
        """The full meta-model with absent log-odds at their conditional expectation."""
        full = self._fit.fits["1" * len(here)]
        mean, covariance = np.array(self._fit.means), np.array(self._fit.covariance)
        weights = np.array(full.weights)
        # E[absent | present] = mean_a + B (present - mean_p), B = C_ap C_pp^-1.
        slope = np.linalg.lstsq(covariance[np.ix_(here, here)], covariance[np.ix_(here, ~here)])[0]
        merged = np.zeros(len(here))
        merged[here] = weights[here] + slope @ weights[~here]
        rest = mean[~here] - mean[here] @ slope
        return full.intercept + float(rest @ weights[~here]), merged
