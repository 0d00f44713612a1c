"""KNORA-E: only those who are right on all of the event's neighbours.

Ko, Sabourin & Britto, "From dynamic classifier selection to dynamic ensemble selection" (Pattern
Recognition 41, 2008).
"""

from combiner.selection.neighbours import Neighbours
from combiner.selection.protocol import Bools, Context, Floats, most_competent
from combiner.selection.space import FeatureSpace


class KnoraEliminate:
    """The present members that are right on the largest number of nearest neighbours in a row.

    Whoever is right on all k is chosen; if nobody is, the neighbourhood shrinks from its far end
    until somebody is. That is to choose those with the longest run of hits, counted from the
    nearest neighbour on; where even the nearest is missed by all, everybody counts.

    Args:
        space: see there.
        neighbours: of the validation set, in that space.
        hits: bool[V, M], whether a member had the right label on a validation row.
    """

    name = "knora_eliminate"
    headers: tuple[str, ...] = ()

    def __init__(self, space: FeatureSpace, neighbours: Neighbours, hits: Bools) -> None:
        self._space = space
        self._neighbours = neighbours
        self._hits = hits

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M]."""
        del context
        near = self._neighbours.of(self._space.place(features))
        run = self._hits[near].cumprod(axis=1).sum(axis=1).astype(float)
        return most_competent(run, present)
