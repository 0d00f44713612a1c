"""How good scores are, on rows whose label is known."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.median import Median
from combiner.strategies.protocol import Strategy
from combiner.strategies.stacking import Stacked
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import Calibration, Stacking

# Who → metric → value.
Metrics = dict[str, dict[str, float]]

# Guo et al., "On Calibration of Modern Neural Networks" (2017).
ECE_BINS = 15


def evaluate(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    """AUC, log-loss, Brier score and expected calibration error of N scores in [0, 1].

    Without rows there is nothing to tell: the answer is empty.

    >>> evaluate(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))["auc"]
    0.75
    """
    if not len(labels):
        return {}
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    return {
        "auc": float(roc_auc_score(labels, scores)),
        "log_loss": float(log_loss(labels, scores)),
        "brier": float(brier_score_loss(labels, scores)),
        "ece": calibration_error(labels, scores),
    }


def calibration_error(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Expected calibration error: mean gap of score and frequency over bins of equal width.

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (2015).

    >>> calibration_error(np.array([0, 1, 1, 1]), np.array([0.75, 0.75, 0.75, 0.75]))
    0.0
    """
    bins = np.minimum((scores * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=scores - labels, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(scores))


def evaluate_strategies(
    members: Sequence[str],
    calibrations: Mapping[str, Calibration],
    stacking: Stacking,
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> Metrics:
    """Metrics of the whole ensemble on float64[N, M] raw scores, by strategy; as live, so here."""
    if not len(labels):
        return {}
    alike = np.ones(len(members))
    strategies: list[Strategy] = [
        Stacked(stacking, [list(members).index(name) for name in stacking.members]),
        WeightedMean(alike),
        Median(),
        MajorityVote(alike),
    ]
    calibrated = Calibrator(members, calibrations).apply(scores)
    present = np.ones(scores.shape, dtype=np.bool_)
    return {
        strategy.name: evaluate(
            labels,
            strategy.combine((calibrated if strategy.calibrated else scores)[:, :, None], present)[
                :, 0
            ],
        )
        for strategy in strategies
    }
