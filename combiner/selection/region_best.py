"""Regions of the feature space, each with its own best members.

Clustering and selection: Kuncheva, "Clustering-and-selection model for classifier combination"
(KES 2000). The regions are those of KMeans.
"""

import numpy as np

from combiner.selection.neighbours import Neighbours
from combiner.selection.protocol import Bools, Context, Floats, shares
from combiner.selection.space import FeatureSpace


class RegionBest:
    """The best present members of the region that an event lies in; they count alike.

    Args:
        space: see there.
        centres: float64[R, D], the regions' middles in that space.
        losses: float64[R, M], mean squared error of each member in each region.
        best: how many members are taken, if so many are present.
    """

    name = "region_best"
    headers: tuple[str, ...] = ()

    def __init__(self, space: FeatureSpace, centres: Floats, losses: Floats, best: int) -> None:
        assert best > 0
        assert len(centres) == len(losses)
        self._space = space
        self._nearest = Neighbours(centres, 1)
        self._order = np.argsort(losses, axis=1, kind="stable")
        self._best = best

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M]."""
        del context
        region = self._nearest.of(self._space.place(features))[:, 0]
        order = self._order[region]
        present_in_order = np.take_along_axis(present, order, axis=1)
        taken = present_in_order & (present_in_order.cumsum(axis=1) <= self._best)
        chosen = np.zeros(present.shape)
        np.put_along_axis(chosen, order, taken.astype(np.float64), axis=1)
        return shares(chosen, present)
