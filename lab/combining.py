"""What the ensemble learns about its members from their out-of-fold scores.

Out-of-fold: each row is scored by a model that has not seen it, so that the members' scores are
as honest here as they will be live.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from combiner.strategies.arithmetic import CLIP
from combiner.strategies.stacking import LINKS
from lab.targets import Truth
from registry.manifest import Calibration, MetaInput, Stacking, StackingFit, Task
from streams.features import FeatureSchema

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

# Up to here every subset of members gets a meta-model of its own: 255 of them.
MAX_MEMBERS_FOR_ALL_SUBSETS = 8
# Beyond it, subsets with at most so many members absent: two out at once is bad luck, three is
# an outage, and for that the expectation of the absent ones has to do.
MAX_ABSENT = 2
# Inverse strength of the L2 penalty (scikit-learn's C).
STACKING_C = 1.0
QUANTILE_LEVELS = 101
# A category with more values than this is left to the members, who can do more with it.
MAX_META_CATEGORIES = 20
# A weight of less than this is the optimiser's way to say zero.
WEIGHT_FLOOR = 1e-6


def fit_calibration(scores: Floats, labels: Labels) -> Calibration:
    """Isotonic regression (Zadrozny & Elkan, 2002) of labels on N scores.

    Probabilities lie strictly inside (0, 1), by the weight of one row among the N: no finite
    sample can show that something is certain. Otherwise they are scikit-learn's.
    """
    from sklearn.isotonic import IsotonicRegression

    isotonic = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
    margin = 1.0 / (len(scores) + 2)
    probabilities = np.clip(isotonic.y_thresholds_, margin, 1.0 - margin)
    return Calibration(tuple(isotonic.X_thresholds_.tolist()), tuple(probabilities.tolist()))


def fit_stacking(
    members: Sequence[str],
    answers: Floats,
    truth: Truth,
    task: Task = "binary",
    beside: tuple[Sequence[MetaInput], Floats] | None = None,
) -> Stacking:
    """Linear meta-models (Wolpert, 1992) over float64[N, M, K] raw answers.

    One for each subset of members that is likely enough to be seen, so that an absent member is
    really absent, and not a member that answered zero.

    Args:
        members: their names.
        answers: out of fold.
        truth: int64[N] classes or float64[N] amounts.
        task: which kind of meta-model.
        beside: inputs from the events themselves, and their float64[N, I] values.
    """
    inputs = LINKS[task].inputs(answers)
    flat = inputs.reshape(len(inputs), -1)
    covariance = np.atleast_2d(np.cov(flat, rowvar=False))
    declared, values = beside if beside is not None else ((), np.empty((len(inputs), 0)))

    def fit(mask: str) -> StackingFit | tuple[StackingFit, ...]:
        here = inputs[:, [digit == "1" for digit in mask]].reshape(len(inputs), -1)
        return _fit_meta_model(np.concatenate([here, values], axis=1), truth, task)

    return Stacking(
        members=tuple(members),
        fits={mask: fit(mask) for mask in masks(len(members))},
        means=tuple(flat.mean(axis=0).tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        columns=inputs.shape[2],
        inputs=tuple(declared),
    )


def meta_inputs_of(schema: FeatureSchema, matrix: Floats) -> tuple[MetaInput, ...]:
    """What a meta-model takes of float64[N, F] features: numbers, and few categories one by one.

    What never varies says nothing, and is left out.
    """
    found: list[MetaInput] = []
    for column, feature in enumerate(schema.features):
        values = matrix[:, column]
        known = values[~np.isnan(values)]
        if not len(known):
            continue
        if feature.kind != "category":
            found.append(MetaInput(column, float(known.mean()), float(known.std())))
        elif len(feature.vocabulary) <= MAX_META_CATEGORIES:
            for code in range(len(feature.vocabulary)):
                here = known == code
                found.append(MetaInput(column, float(here.mean()), float(here.std()), code))
    return tuple(each for each in found if each.scale > 0)


def fit_blending(answers: Floats, truth: Truth, task: Task = "binary") -> Floats:
    """float64[M] weights, not negative and of sum 1, that minimise the loss of the weighted mean.

    The loss of float64[N, M, K] answers is the log-loss of classes, or the mean squared error.
    Both are convex, so there is one minimum (Breiman, "Stacked regressions", 1996).
    """
    from scipy.optimize import minimize

    members = answers.shape[1]
    if task == "regression":
        scale = float(np.std(truth)) or 1.0
        errors = (answers[:, :, 0] - truth[:, None]) / scale
        products = errors.T @ errors / len(errors)

        def loss(weights: Floats) -> tuple[float, Floats]:
            return float(weights @ products @ weights), 2.0 * products @ weights

    else:
        likelihoods = likelihoods_of(answers, truth)

        def loss(weights: Floats) -> tuple[float, Floats]:
            mixed = likelihoods @ weights
            gradient = -(likelihoods / mixed[:, None]).mean(axis=0)
            return -float(np.log(mixed).mean()), gradient

    found = minimize(
        loss,
        np.full(members, 1.0 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    # What rounding left below zero, and what is too little to matter, is zero.
    kept = np.where(found.x < WEIGHT_FLOOR, 0.0, found.x)
    weights: Floats = kept / kept.sum()
    return weights


def likelihoods_of(answers: Floats, truth: Truth) -> Floats:
    """float64[N, M]: the probability that each member gave to what came true, at least `CLIP`."""
    if answers.shape[2] == 1:
        positive = (truth == 1)[:, None]
        found: Floats = np.where(positive, answers[:, :, 0], 1.0 - answers[:, :, 0])
    else:
        places = truth.astype(np.int64)[:, None, None]
        found = np.take_along_axis(answers, places, axis=2)[:, :, 0]
    return np.maximum(found, CLIP)


def qualities(answers: Floats, truth: Truth, task: Task = "binary") -> Floats:
    """float64[M]: minus the loss of each member's float64[N, M, K] answers; greater is better."""
    if task == "regression":
        squares: Floats = ((answers[:, :, 0] - truth[:, None]) ** 2).mean(axis=0)
        return np.negative(squares)
    logs: Floats = np.log(likelihoods_of(answers, truth)).mean(axis=0)
    return logs


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


def quantiles(answers: Floats) -> tuple[float | tuple[float, ...], ...]:
    """Quantiles of float64[N, K] answers at evenly spaced levels from 0 to 1: the reference.

    For one number an answer they are numbers, for more a row for each.
    """
    levels = np.linspace(0.0, 1.0, QUANTILE_LEVELS)
    rows = np.quantile(answers, levels, axis=0).T.tolist()
    return tuple(rows[0]) if len(rows) == 1 else tuple(map(tuple, rows))


def _fit_meta_model(
    inputs: Floats, truth: Truth, task: Task
) -> StackingFit | tuple[StackingFit, ...]:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    if task == "regression":
        model: Any = LinearRegression()
    else:
        # Newton's method: exact in a few steps where rows are many and columns few.
        model = LogisticRegression(C=STACKING_C, solver="newton-cholesky", tol=1e-8)
    model.fit(inputs, truth)
    fits = tuple(
        StackingFit(float(intercept), tuple(weights.tolist()))
        for intercept, weights in zip(
            np.atleast_1d(model.intercept_), np.atleast_2d(model.coef_), strict=True
        )
    )
    return fits if task == "multiclass" else fits[0]
