"""The arithmetic that strategies share."""

import numpy as np
from numpy.typing import NDArray

from combiner.strategies.protocol import Bools, Floats

Ints = NDArray[np.int64]

# Beyond these a probability says no more than "certain", and its log-odds would drown the rest.
CLIP = 1e-6


def logit(probabilities: Floats) -> Floats:
    """Log-odds of clipped probabilities, any shape."""
    clipped = np.clip(probabilities, CLIP, 1.0 - CLIP)
    return np.log(clipped / (1.0 - clipped))


def sigmoid(log_odds: Floats) -> Floats:
    """Probabilities of log-odds, any shape."""
    probabilities: Floats = 1.0 / (1.0 + np.exp(-log_odds))
    return probabilities


def softmax(logs: Floats) -> Floats:
    """Probabilities of float64[..., K] logarithms that need a common constant."""
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def logs(probabilities: Floats) -> Floats:
    """Logarithms of probabilities that are no smaller than `CLIP`, any shape."""
    found: Floats = np.log(np.maximum(probabilities, CLIP))
    return found


def filled(answers: Floats, present: Bools, value: float = 0.0) -> Floats:
    """float64[N, M, K] with one value in absent cells."""
    return np.where(present[:, :, None], answers, value)


def present_weights(weights: Floats, present: Bools) -> Floats:
    """float64[N, M]: weights, float64[M] or [N, M], of the present members, each row's sum 1.

    Where all present members weigh nothing they count alike, for some answer must come.
    """
    shares: Floats = weights * present
    totals = shares.sum(axis=1, keepdims=True)
    if not totals.all():
        shares = np.where(totals > 0, shares, present.astype(np.float64))
        totals = shares.sum(axis=1, keepdims=True)
    normalised: Floats = shares / totals
    return normalised


def weighed(answers: Floats, present: Bools, weights: Floats) -> Floats:
    """float64[N, M, K]: weight times answer, with weights that add up to 1 in each row."""
    products: Floats = present_weights(weights, present)[:, :, None] * filled(answers, present)
    return products


def ordered(answers: Floats, present: Bools, low: Ints, high: Ints) -> Floats:
    """float64[N, M, K]: each answer's share in the mean of the `low`th to below the `high`th.

    `low` and `high` are int64[N], places among the present members' answers in ascending order,
    found for each of the K numbers by itself.
    """
    by_size = np.argsort(filled(answers, present, np.inf), axis=1, kind="stable")
    places = np.arange(answers.shape[1])
    kept = (places >= low[:, None]) & (places < high[:, None])
    counts = (high - low).astype(np.float64)[:, None, None]
    picked = np.where(kept[:, :, None], np.take_along_axis(answers, by_size, axis=1), 0.0) / counts
    shares = np.empty(answers.shape)
    np.put_along_axis(shares, by_size, picked, axis=1)
    return shares


def rescaled(shares: Floats, answers: Floats, present: Bools) -> Floats:
    """float64[N, M, K] shares of classes that add up to 1 in each row, over members and classes.

    Rows that say nothing of any class get the members' mean. One number an answer stays as it is.
    """
    if shares.shape[2] == 1:
        return shares
    totals = shares.sum(axis=(1, 2), keepdims=True)
    if not (totals > 0).all():
        means = weighed(answers, present, np.ones(present.shape[1]))
        shares = np.where(totals > 0, shares, means)
        totals = shares.sum(axis=(1, 2), keepdims=True)
    normalised: Floats = shares / totals
    return normalised


def only(answers: Floats, present: Bools, values: Floats) -> Floats:
    """float64[N, M, K]: the answer of the present member with the greatest value, 0 elsewhere.

    `values` are float64[M] or [N, M]; of equal members the first holds.
    """
    chosen = np.argmax(np.where(present, values, -np.inf), axis=1)
    picked = np.arange(present.shape[1]) == chosen[:, None]
    return filled(answers, picked)
