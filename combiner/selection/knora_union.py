"""KNORA-U: one vote for each of the event's neighbours on which a member is right.

Ko, Sabourin & Britto, "From dynamic classifier selection to dynamic ensemble selection" (Pattern
Recognition 41, 2008).
"""

from combiner.selection.neighbours import Neighbours
from combiner.selection.protocol import Bools, Context, Floats, shares
from combiner.selection.space import FeatureSpace


class KnoraUnion:
    """Every present member, by the number of nearest neighbours on which it is right.

    Where nobody is right on any, everybody counts alike.

    Args:
        space: see there.
        neighbours: of the validation set, in that space.
        hits: bool[V, M], whether a member had the right label on a validation row.
    """

    name = "knora_union"
    headers: tuple[str, ...] = ()

    def __init__(self, space: FeatureSpace, neighbours: Neighbours, hits: Bools) -> None:
        self._space = space
        self._neighbours = neighbours
        self._hits = hits

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M]."""
        del context
        near = self._neighbours.of(self._space.place(features))
        return shares(self._hits[near].sum(axis=1).astype(float), present)
