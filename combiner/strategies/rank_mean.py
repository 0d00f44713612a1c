"""Rank averaging: members are compared by how unusual their answers are for them."""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import filled, present_weights
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Task
from streams.errors import ConfigurationError

# A reference distribution: values that ascend strictly, and the share of answers below each.
Curve = tuple[Floats, Floats]


def curve_of(quantiles: Floats) -> Curve:
    """The distribution with these quantiles at evenly spaced levels from 0 to 1.

    A value that stands several times, because many answers are alike, has the level in the middle:
    the mid-rank, as ranks of ties are usually given.
    """
    levels = np.linspace(0.0, 1.0, len(quantiles))
    values, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    middle: Floats = (levels[first] + levels[first + counts - 1]) / 2
    return values, middle


class RankMean:
    """The answer that is as unusual as the members' answers are on average.

    Each answer becomes its rank in its model's reference distribution (the share of the model's
    out-of-fold answers below it), the ranks are averaged under weights renormalised over those
    present, and the mean rank is read back as a score on the mean of all members' quantile
    functions ("vincentizing": Ratcliff, 1979). So models on different scales count alike, events
    are ordered as by mean rank, and the threshold keeps its meaning. Members whose references
    agree give the answer on which they agree. Classes are treated each by itself and made to add
    up to 1.

    Args:
        quantiles: for each of M models float64[K, Q]; None for one that never answers.
        weights: float64[M], not negative.
        threshold: the score from which on the label is 1.
    """

    name: ClassVar[str] = "rank_mean"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = False
    scale: Scale = "rank"

    def __init__(
        self, quantiles: Sequence[Floats | None], weights: Floats, threshold: float = 0.5
    ) -> None:
        assert (weights >= 0).all()
        self.weights = weights
        self.threshold = threshold
        self._curves = [
            None if found is None else [curve_of(each) for each in found] for found in quantiles
        ]
        known = np.array([curves is not None for curves in self._curves])
        assert known.any()
        shares = present_weights(weights, known[None, :])[0]
        columns = next(len(curves) for curves in self._curves if curves is not None)
        self._pooled = [self._pool(column, shares) for column in range(columns)]

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the reference distributions that the bundle holds.

        Raises:
            ConfigurationError: it holds none of a member.
        """
        known = ingredients.manifest.quantiles
        for member in ingredients.members:
            if member not in known:
                raise ConfigurationError(
                    "combiner.strategy",
                    f"rank_mean needs the reference distribution of `{member}`, and the bundle "
                    "holds none; expected it trained with the bundle, `reserve = true` for it, or "
                    "another strategy",
                )
        quantiles = [
            None if reserve or model not in known else np.atleast_2d(np.array(known[model]))
            for model, reserve in zip(ingredients.models, ingredients.reserves, strict=True)
        ]
        return cls(quantiles, ingredients.weights, ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]."""
        ranks = self.contributions(answers, present, weights).sum(axis=1)
        combined = np.empty(ranks.shape)
        for column, (values, levels) in enumerate(self._pooled):
            combined[:, column] = np.interp(ranks[:, column], levels, values)
        if combined.shape[1] > 1:
            totals = combined.sum(axis=1, keepdims=True)
            even = 1.0 / combined.shape[1]
            combined = np.where(totals > 0, combined / np.where(totals > 0, totals, 1.0), even)
        return combined

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: weight times rank, which add up to the mean rank."""
        shares = present_weights(self.weights if weights is None else weights, present)
        clean = filled(answers, present)
        ranks = np.zeros(answers.shape)
        for member, curves in enumerate(self._curves):
            for column, (values, levels) in enumerate(curves or ()):
                ranks[:, member, column] = np.interp(clean[:, member, column], values, levels)
        products: Floats = shares[:, :, None] * ranks
        return products

    def _pool(self, column: int, shares: Floats) -> Curve:
        """The mean of the members' quantile functions, exact at the levels of each."""
        curves = [
            (share, *curves[column])
            for share, curves in zip(shares.tolist(), self._curves, strict=True)
            if curves is not None
        ]
        levels = np.unique(np.concatenate([levels for _, _, levels in curves]))
        values = sum(share * np.interp(levels, own, values) for share, values, own in curves)
        return np.asarray(values), levels
