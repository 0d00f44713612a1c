"""Which of a model's output tensors is its score, and what shape a score has."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray


def the_score(outputs: Sequence[str], candidates: Collection[str]) -> str:
    """The one output that can be a score.

    Args:
        outputs: the names of all outputs.
        candidates: those whose type is that of a score: not labels, which are integers or text.

    Raises:
        ValueError: there is none, or more than one.

    >>> the_score(["label", "probabilities"], {"probabilities"})
    'probabilities'
    """
    found = [name for name in outputs if name in candidates]
    if len(found) != 1:
        which = ", ".join(found) or "none"
        raise ValueError(f"{len(found)} outputs can be the score ({which}); expected one")
    return found[0]


def scores_of(values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """What a model says of N rows: float64[N], or float64[N, K] for K > 2 classes.

    Of two columns, which are the probabilities of the negative and the positive class, the
    second is the score. Anything of another shape is returned as it is, for whoever judges it.

    >>> scores_of(np.array([[0.25, 0.75], [0.5, 0.5]]), 2)
    array([0.75, 0.5 ])
    >>> scores_of(np.array([[0.25], [0.5]]), 2)
    array([0.25, 0.5 ])
    """
    if values.ndim == 2 and values.shape[0] == rows and values.shape[1] in {1, 2}:
        return np.ascontiguousarray(values[:, -1])
    return values
