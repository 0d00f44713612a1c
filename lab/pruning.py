"""Fewer members that score as well: greedy forward selection with replacement.

Caruana et al., "Ensemble selection from libraries of models" (ICML 2004).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 50


def greedy_weights(answers: Floats, labels: Floats, rounds: int = ROUNDS) -> Floats:
    """float64[M], adding up to 1: how often each member was taken.

    In each round the member whose addition makes the mean's squared error least is taken, and may
    be taken again; of equals the first. A member that never helps has the weight 0 and can go.

    Args:
        answers: float64[N, M], calibrated and out of fold.
        labels: float64[N].
        rounds: how many are taken.
    """
    errors = answers - labels[:, None]
    # The error of any mean follows from the mean products of its members' errors.
    products = errors.T @ errors / len(errors)
    counts = np.zeros(len(products))
    for _ in range(rounds):
        # With one more of member i: (c + e_i)' P (c + e_i), less what is the same for all.
        gain = 2.0 * (products @ counts) + np.diag(products)
        counts[int(np.argmin(gain))] += 1.0
    weights: Floats = counts / rounds
    return weights
