"""What the ensemble learns about its members from their out-of-fold scores.

Out-of-fold: each row is scored by a model that has not seen it, so that the members' scores are
as honest here as they will be live.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from combiner.strategies.arithmetic import logit
from registry.manifest import Calibration, Stacking, StackingFit

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

# Enough straight lines to follow any curve that a few thousand rows can tell from noise.
MAX_KNOTS = 64
# Up to here every subset of members gets a meta-model of its own: 255 of them.
MAX_MEMBERS_FOR_ALL_SUBSETS = 8
# Beyond it, subsets with at most so many members absent: two out at once is bad luck, three is
# an outage, and for that the expectation of the absent ones has to do.
MAX_ABSENT = 2
# Inverse strength of the L2 penalty (scikit-learn's C).
STACKING_C = 1.0
QUANTILE_LEVELS = 101


def fit_calibration(scores: Floats, labels: Labels) -> Calibration:
    """Isotonic regression (Zadrozny & Elkan, 2002) of labels on N scores, thinned to few knots.

    Probabilities lie strictly inside (0, 1), by the weight of one row among the N: no finite
    sample can show that something is certain.
    """
    from sklearn.isotonic import IsotonicRegression

    isotonic = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    knots = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, MAX_KNOTS)))
    margin = 1.0 / (len(scores) + 2)
    probabilities = np.clip(isotonic.predict(knots), margin, 1.0 - margin)
    return Calibration(tuple(knots.tolist()), tuple(probabilities.tolist()))


def fit_stacking(members: Sequence[str], scores: Floats, labels: Labels) -> Stacking:
    """Logistic meta-models (Wolpert, 1992) over the logits of float64[N, M] raw scores.

    One for each subset of members that is likely enough to be seen, so that an absent member is
    really absent, and not a member that answered zero.
    """
    logits = logit(scores)
    covariance = np.atleast_2d(np.cov(logits, rowvar=False))
    return Stacking(
        members=tuple(members),
        fits={mask: _fit_subset(mask, logits, labels) for mask in masks(len(members))},
        means=tuple(logits.mean(axis=0).tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
    )


def masks(members: int) -> Iterator[str]:
    """The subsets that get a meta-model, one digit a member; the full one first.

    >>> list(masks(2))
    ['11', '01', '10']
    """
    everybody = members <= MAX_MEMBERS_FOR_ALL_SUBSETS
    sizes = [size for size in range(members) if everybody or size <= MAX_ABSENT]
    if members - 1 not in sizes:
        sizes.append(members - 1)
    for absent in sizes:
        for gone in combinations(range(members), absent):
            yield "".join("0" if i in gone else "1" for i in range(members))


def quantiles(scores: Floats) -> tuple[float, ...]:
    """Quantiles of N scores at evenly spaced levels from 0 to 1: a model's reference."""
    levels = np.linspace(0.0, 1.0, QUANTILE_LEVELS)
    return tuple(np.quantile(scores, levels).tolist())


def _fit_subset(mask: str, logits: Floats, labels: Labels) -> StackingFit:
    from sklearn.linear_model import LogisticRegression

    present = [i for i, digit in enumerate(mask) if digit == "1"]
    # Newton's method: exact in a few steps where rows are many and columns few.
    model = LogisticRegression(C=STACKING_C, solver="newton-cholesky", tol=1e-8)
    model.fit(logits[:, present], labels)
    return StackingFit(float(model.intercept_[0]), tuple(model.coef_[0].tolist()))
