"""How sure the ensemble is of a score.

Whether its members agree, how far apart they are, and how far the score is from a coin's.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def classes_of(scores: Floats) -> Floats:
    """float64[N, C] of class probabilities; a single column becomes those of 0 and 1."""
    return np.concatenate([1.0 - scores, scores], axis=1) if scores.shape[1] == 1 else scores


def dispersion(answers: Floats, present: Bools) -> Floats:
    """float64[N]: standard deviation of the present members' answers, over all K columns."""
    here = present[:, :, None]
    count = np.count_nonzero(present, axis=1)[:, None]
    mean = np.where(here, answers, 0.0).sum(axis=1) / count
    squares = np.where(here, np.square(answers - mean[:, None, :]), 0.0).sum(axis=1) / count
    spread: Floats = np.sqrt(squares.sum(axis=1))
    return spread


def agreement(member_labels: Ints, labels: Ints, present: Bools, weights: Floats) -> Floats:
    """float64[N]: share of the present members' weight that has the ensemble's label.

    Args:
        member_labels: int64[N, M]; absent ones may be anything.
        labels: int64[N].
        present: bool[N, M], a True in each row.
        weights: float64[M]; where all that are present weigh nothing they count alike.
    """
    counted: Floats = weights * present
    totals = counted.sum(axis=1, keepdims=True)
    counted = np.where(totals > 0, counted, present.astype(np.float64))
    same = counted * (member_labels == labels[:, None])
    share: Floats = same.sum(axis=1) / counted.sum(axis=1)
    return share


def entropy(scores: Floats) -> Floats:
    """float64[N]: Shannon's entropy of float64[N, K] scores, divided by its largest value.

    0 is certain, 1 is as likely as not.
    """
    probabilities = classes_of(scores)
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    found: Floats = -(probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1])
    return np.maximum(found, 0.0)
