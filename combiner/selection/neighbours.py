"""The k nearest rows of a reference set, exactly, without a loop over events and without a tree.

Trees help little beyond a dozen dimensions. Here one matrix product gives rough squared distances;
the k-th smallest of the minima over groups of rows bounds the k-th smallest distance from above,
so that a handful of candidates is left, whose distances are then worked out exactly.
"""

import numpy as np

from combiner.selection.protocol import Floats, Ints

# Events at a time: a block of distances that stays in the CPU's cache.
BLOCK = 64
# Rows in a group: small enough that the bound is tight, large enough that there are few groups.
GROUP = 16
# The rough distances may err by some units in the last place of their largest term.
_SLACK = 1e-11


class Neighbours:
    """Looks up the nearest of V places.

    Distances are Euclidean. Rows at equal distance come in the order of their numbers, so that
    the answer for an event does not depend on the events beside it.

    Args:
        places: float64[V, D], the reference set.
        k: how many neighbours; at most V.
    """

    def __init__(self, places: Floats, k: int) -> None:
        assert 0 < k <= len(places)
        self.k = k
        self._places = places
        self._squares = np.einsum("vd,vd->v", places, places)
        self._largest = float(self._squares.max())
        # With fewer groups than k their minima would bound nothing.
        self._group = GROUP if len(places) >= GROUP * k else 1
        padding = -len(places) % self._group
        self._padded = np.concatenate([self._squares, np.full(padding, np.inf)])
        self._product = np.concatenate([-2.0 * places, np.zeros((padding, places.shape[1]))]).T

    def of(self, places: Floats) -> Ints:
        """int64[N, k], the nearest first."""
        found = np.empty((len(places), self.k), dtype=np.int64)
        for start in range(0, len(places), BLOCK):
            found[start : start + BLOCK] = self._block(places[start : start + BLOCK])
        return found

    def _block(self, places: Floats) -> Ints:
        squares = np.einsum("nd,nd->n", places, places)
        rough = places @ self._product + self._padded  # without the event's own square
        minima = rough.reshape(len(places), -1, self._group).min(axis=2)
        bound = np.partition(minima, self.k - 1, axis=1)[:, self.k - 1]
        slack = _SLACK * (squares + self._largest)
        rows, candidates = np.nonzero(rough <= (bound + slack)[:, None])
        away = places[rows] - self._places[candidates]
        distances = np.square(away).sum(axis=1)
        order = np.lexsort((candidates, distances, rows))
        first = np.searchsorted(rows, np.arange(len(places)))
        nearest: Ints = candidates[order][first[:, None] + np.arange(self.k)]
        return nearest
