"""Prediction sets and intervals that hold the truth as often as they promise.

Split conformal prediction (Vovk, Gammerman & Shafer, "Algorithmic learning in a random world",
2005): a nonconformity score says how badly an answer would fit an event; on rows whose truth is
known one takes the quantile of the truths' scores; live, every answer that fits no worse belongs
to the set. The promise holds on average over events like those rows, whatever the models are.

    lac         1 - p of the label (Sadinle, Lei & Wasserman, 2019): smallest sets; may be empty
    aps         probability of all likelier labels and a random part of its own (Romano, Sesia &
                Candes, 2020): sets that grow with the difficulty
    absolute    |truth - score|: intervals of one width
    normalised  the same divided by the members' dispersion (Lei et al., 2018): intervals that
                widen where the members disagree

Quantiles go by subset of members, so sets and intervals widen as far as the missing members
mattered. Chance, where a method needs it, comes from the event's identity: the same event has the
same set again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from combiner.confidence import classes_of, dispersion
from combiner.subsets import BySubset
from registry.certainty import Conformal, ConformalMethod, Quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SET_METHODS: tuple[ConformalMethod, ...] = ("lac", "aps")


def chances(partition: int, offsets: Ints) -> Floats:
    """float64[N] in [0, 1), spread evenly over events.

    SplitMix64 of their places (Steele, Lea & Flood, "Fast splittable pseudorandom number
    generators", 2014).
    """
    with np.errstate(over="ignore"):
        z = offsets.astype(np.uint64) + np.uint64(partition) * np.uint64(0xD1342543DE82EF95)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    # The upper 53 bits: as many as a float64 holds.
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def label_scores(method: ConformalMethod, probabilities: Floats, chance: Floats) -> Floats:
    """float64[N, C]: how badly each label fits, from float64[N, C] and float64[N]."""
    if method == "lac":
        return 1.0 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    before = ordered.cumsum(axis=1) - ordered
    found = np.empty_like(probabilities)
    np.put_along_axis(found, order, before + chance[:, None] * ordered, axis=1)
    return found


def quantile_of(scores: Floats, coverage: float) -> Quantile:
    """The quantile below which a new score falls with probability `coverage`.

    With N scores known, the new one is one of N + 1 that are alike; so it is the
    `coverage (N + 1)`-th smallest.

    Raises:
        ValueError: N is too small for any promise like that.
    """
    wanted = coverage * (len(scores) + 1)
    if wanted > len(scores):
        raise ValueError(f"{len(scores)} rows; expected {coverage / (1 - coverage):.0f} or more")
    value = np.sort(scores)[max(int(np.ceil(wanted)), 1) - 1]
    below = np.count_nonzero(scores < value)
    equal = np.count_nonzero(scores == value)
    ties = min((wanted - below) / equal, 1.0)
    return Quantile(float(value), float(ties))


class PredictionSets:
    """Labels that may be the truth.

    Args:
        fit: by `lac` or `aps`.
        columns: the column of each member, in the order of the masks.
    """

    def __init__(self, fit: Conformal, columns: Sequence[int]) -> None:
        assert fit.method in SET_METHODS
        self.coverage = fit.coverage
        self._method = fit.method
        self._quantiles = BySubset(columns, fit.quantiles)

    def of(self, scores: Floats, present: Bools, chance: Floats) -> Bools:
        """bool[N, C]: which labels are in; from the ensemble's float64[N, K] scores."""
        found = label_scores(self._method, classes_of(scores), chance)
        inside = np.empty(found.shape, dtype=np.bool_)
        for rows, quantile in self._quantiles.groups(present):
            lucky = (found[rows] == quantile.value) & (chance[rows] < quantile.ties)[:, None]
            inside[rows] = (found[rows] < quantile.value) | lucky
        return inside


class PredictionIntervals:
    """Ranges that may hold the truth.

    Args:
        fit: by `absolute` or `normalised`.
        columns: the column of each member, in the order of the masks.
    """

    def __init__(self, fit: Conformal, columns: Sequence[int]) -> None:
        assert fit.method not in SET_METHODS
        self.coverage = fit.coverage
        self._scaled = fit.method == "normalised"
        self._floor = fit.floor
        self._quantiles = BySubset(columns, fit.quantiles)

    def of(self, scores: Floats, answers: Floats, present: Bools) -> Floats:
        """float64[N, 2]: from and to.

        Args:
            scores: float64[N, 1], the ensemble's.
            answers: float64[N, M, 1], the members'.
            present: bool[N, M].
        """
        widths = np.ones(len(scores))
        if self._scaled:
            widths = dispersion(answers, present) + self._floor
        for rows, quantile in self._quantiles.groups(present):
            widths[rows] *= quantile.value
        ranges: Floats = scores + widths[:, None] * np.array([-1.0, 1.0])
        return ranges
