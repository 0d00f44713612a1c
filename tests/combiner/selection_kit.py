"""Members that are right here and wrong there, and one selection of each kind over them."""

import numpy as np

from combiner.selection.constrained_subset import ConstrainedSubset, Constraints, Members
from combiner.selection.knora_eliminate import KnoraEliminate
from combiner.selection.knora_union import KnoraUnion
from combiner.selection.neighbours import Neighbours
from combiner.selection.overall_local_accuracy import OverallLocalAccuracy
from combiner.selection.protocol import Context, Selection
from combiner.selection.region_best import RegionBest
from combiner.selection.segment_weights import (
    FeatureRanges,
    FeatureValues,
    HeaderValues,
    Hours,
    SegmentWeights,
)
from combiner.selection.space import FeatureSpace

MEMBERS = 4
FEATURES = 3
VALIDATION = 200
K = 7
DEVICES = np.array(["phone", "desk", "", "fridge"])

_random = np.random.default_rng(11)
# Small integers, so that many validation rows lie at the same distance.
ROWS = _random.integers(-3, 4, (VALIDATION, FEATURES)).astype(np.float64)
HITS = _random.random((VALIDATION, MEMBERS)) < 0.3 + 0.4 * (ROWS[:, :1] > np.arange(-2, 2))
SPACE = FeatureSpace([0.0] * FEATURES, [1.0] * FEATURES, [0] * FEATURES)


def members(count: int, seed: int = 3) -> Members:
    """Members with errors, disagreements and latencies that were made up."""
    random = np.random.default_rng(seed)
    errors = random.normal(size=(300, count)) * random.uniform(0.2, 0.6, count)
    labels = random.random((300, count)) < 0.5
    disagreement = (labels[:, :, None] != labels[:, None, :]).mean(axis=0)
    return Members(errors.T @ errors / 300, disagreement, random.uniform(1, 50, count))


def every_kind() -> list[Selection]:
    """Each selection, the segments in all their forms."""
    random = np.random.default_rng(5)
    near = Neighbours(SPACE.place(ROWS), K)
    segments = [
        FeatureRanges(0, [-1.0, 1.5]),
        FeatureValues(1, [-2.0, 0.0]),
        HeaderValues("device", ["phone", "desk"]),
        Hours([6, 18]),
    ]
    return [
        OverallLocalAccuracy(SPACE, near, HITS),
        KnoraEliminate(SPACE, near, HITS),
        KnoraUnion(SPACE, near, HITS),
        RegionBest(SPACE, ROWS[:5], random.random((5, MEMBERS)), 2),
        ConstrainedSubset(members(MEMBERS), Constraints(2)),
        *(SegmentWeights(s, random.integers(0, 3, (s.count + 1, MEMBERS)) * 1.0) for s in segments),
    ]


def some_events(count: int, seed: int) -> tuple[np.ndarray, Context, np.ndarray]:
    """Features, context and presence; a tenth of the features is missing."""
    random = np.random.default_rng(seed)
    features = random.integers(-3, 4, (count, FEATURES)).astype(np.float64)
    features[random.random(features.shape) < 0.1] = np.nan
    context = Context(
        random.integers(0, 10**12, count), {"device": DEVICES[random.integers(0, 4, count)]}
    )
    present = random.random((count, MEMBERS)) < 0.6
    present[np.arange(count), random.integers(0, MEMBERS, count)] = True
    return features, context, present
