"""Overall local accuracy: whoever was right most often on the event's neighbours.

Woods, Kegelmeyer & Bowyer, "Combination of multiple classifiers using local accuracy estimates"
(IEEE PAMI 19, 1997).
"""

from combiner.selection.neighbours import Neighbours
from combiner.selection.protocol import Bools, Context, Floats, most_competent
from combiner.selection.space import FeatureSpace


class OverallLocalAccuracy:
    """The most accurate of the present members among the k nearest validation rows.

    Args:
        space: see there.
        neighbours: of the validation set, in that space.
        hits: bool[V, M], whether a member had the right label on a validation row.

    Members that tie share the weight, so that the order of the members does not matter.
    """

    name = "overall_local_accuracy"
    headers: tuple[str, ...] = ()

    def __init__(self, space: FeatureSpace, neighbours: Neighbours, hits: Bools) -> None:
        self._space = space
        self._neighbours = neighbours
        self._hits = hits

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M]."""
        del context
        near = self._neighbours.of(self._space.place(features))
        right = self._hits[near].sum(axis=1).astype(float)
        return most_competent(right, present)
