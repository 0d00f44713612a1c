"""Where each member is good, learned from its out-of-fold answers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from combiner.selection.neighbours import Neighbours
from combiner.selection.space import FeatureSpace
from registry.competence import Competence, Numbers
from streams.features import FeatureSchema

Floats = NDArray[np.float64]

# Enough rows that each event has neighbours which are near, few enough to look at in microseconds.
VALIDATION_ROWS = 2000
REGIONS = 8


def fit_competence(
    members: Sequence[str],
    schema: FeatureSchema,
    matrix: Floats,
    answers: Floats,
    calibrated: Floats,
    labels: Floats,
    *,
    seed: int,
    classify: bool = True,
) -> Competence:
    """What there is to know of M members on N rows.

    Args:
        members: their names.
        schema: of the features.
        matrix: float64[N, F].
        answers: float64[N, M, K], raw and out of fold.
        calibrated: the same as probabilities; errors and labels are judged by these.
        labels: float64[N]: 0 and 1, places of classes, or values.
        seed: of the choice of validation rows, and of the regions.
        classify: whether labels are classes.
    """
    means, scales = _moments(matrix)
    space = space_of(schema, means, scales)
    places = space.place(matrix)
    errors = errors_of(calibrated, labels, classify=classify)
    centres = _centres(places, seed)
    kept = np.random.default_rng(seed).choice(
        len(matrix), min(VALIDATION_ROWS, len(matrix)), replace=False
    )
    kept.sort()
    return Competence(
        members=tuple(members),
        rows=Numbers.of(matrix[kept]),
        answers=Numbers.of(answers[kept]),
        labels=Numbers.of(labels[kept]),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        centres=Numbers.of(centres),
        region_losses=Numbers.of(_region_losses(places, centres, errors)),
        products=Numbers.of(np.einsum("nik,njk->ij", errors, errors) / len(errors)),
        disagreement=Numbers.of(_disagreement(calibrated, classify=classify)),
    )


def space_of(schema: FeatureSchema, means: Floats, scales: Floats) -> FeatureSpace:
    """The space in which distances between events are taken."""
    sizes = [len(f.vocabulary) if f.kind == "category" else 0 for f in schema.features]
    return FeatureSpace(means.tolist(), scales.tolist(), sizes)


def errors_of(answers: Floats, labels: Floats, *, classify: bool) -> Floats:
    """float64[N, M, K]: answers less the truth; of several classes each against its indicator."""
    columns = answers.shape[2]
    if classify and columns > 1:
        truth = (labels[:, None] == np.arange(columns)).astype(np.float64)
    else:
        truth = labels[:, None]
    errors: Floats = answers - truth[:, None, :]
    return errors


def _moments(matrix: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each feature over the rows that have it; 0 where none has."""
    there = ~np.isnan(matrix)
    counts = np.maximum(there.sum(axis=0), 1)
    means = np.where(there, matrix, 0.0).sum(axis=0) / counts
    squares = np.where(there, np.square(matrix - means), 0.0).sum(axis=0) / counts
    return means, np.sqrt(squares)


def _centres(places: Floats, seed: int) -> Floats:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    regions = min(REGIONS, len(np.unique(places, axis=0)))
    # Several threads would add up in another order, and so give other last digits.
    with threadpool_limits(1):
        fitted = KMeans(regions, n_init=3, random_state=seed).fit(places)
    centres: Floats = np.asarray(fitted.cluster_centers_, dtype=np.float64)
    return centres


def _region_losses(places: Floats, centres: Floats, errors: Floats) -> Floats:
    """float64[R, M]: mean squared error in each region; where a region is empty that of all."""
    region = Neighbours(centres, 1).of(places)[:, 0]
    squares = np.square(errors).sum(axis=2)
    sums = np.zeros((len(centres), squares.shape[1]))
    np.add.at(sums, region, squares)
    counts = np.bincount(region, minlength=len(centres))[:, None]
    means: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), squares.mean(axis=0))
    return means


def _disagreement(answers: Floats, *, classify: bool) -> Floats:
    if not classify:
        return 1.0 - np.atleast_2d(np.corrcoef(answers[:, :, 0], rowvar=False))
    one = answers.shape[2] == 1
    said = answers[:, :, 0] >= 0.5 if one else answers.argmax(axis=2)
    shares: Floats = np.stack(
        [(said == said[:, [column]]).mean(axis=0) for column in range(said.shape[1])]
    )
    return 1.0 - shares
