"""How good scores are, on rows whose label is known."""

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.catalogue import catalogue, strategy_named
from combiner.strategies.protocol import Ingredients, UsesFeatures
from lab.targets import Truth
from registry.manifest import Manifest, Task

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


def evaluate_answers(task: Task, truth: Truth, answers: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of float64[N, K] answers to a task; empty without rows.

    Binary as `evaluate`. Multi-class: accuracy, AUC of each class against the rest (mean),
    log-loss, Brier score (sum over classes), and the calibration error of the likeliest class.
    Regression: root mean squared error, mean absolute error, and the share of variance explained.
    """
    if not len(truth):
        return {}
    if task == "binary":
        return evaluate(truth.astype(np.int64), answers[:, 0])
    if task == "regression":
        errors = answers[:, 0] - truth
        spread = float(((truth - truth.mean()) ** 2).mean())
        mse = float((errors**2).mean())
        return {
            "rmse": mse**0.5,
            "mae": float(np.abs(errors).mean()),
            "r2": 1.0 - mse / spread if spread > 0 else 0.0,
        }
    from sklearn.metrics import log_loss, roc_auc_score

    # Some libraries answer in float32, whose shares add up to 1 only nearly.
    answers = answers / answers.sum(axis=1, keepdims=True)
    classes = np.arange(answers.shape[1])
    labels = truth.astype(np.int64)
    right = (answers.argmax(axis=1) == labels).astype(np.int64)
    is_class = labels[:, None] == classes
    seen = is_class.any(axis=0)
    # A class of which no row was held out has no AUC.
    aucs = [roc_auc_score(is_class[:, k], answers[:, k]) for k in classes[seen]]
    return {
        "accuracy": float(right.mean()),
        "auc": float(np.mean(aucs)),
        "log_loss": float(log_loss(labels, answers, labels=classes)),
        "brier": float(((answers - is_class) ** 2).sum(axis=1).mean()),
        "ece": calibration_error(right, answers.max(axis=1)),
    }


def evaluate_strategies(
    manifest: Manifest,
    truth: Truth,
    answers: NDArray[np.float64],
    features: NDArray[np.float64],
) -> Metrics:
    """Metrics of the whole ensemble, by strategy; as live with equal weights, so here.

    Args:
        manifest: the ensemble's.
        truth: of N rows.
        answers: float64[N, M, K], raw.
        features: float64[N, F].
    """
    if not len(truth):
        return {}
    names = [model.name for model in manifest.models]
    ingredients = Ingredients(
        models=names,
        reserves=np.zeros(len(names), dtype=np.bool_),
        weights=np.ones(len(names)),
        threshold=0.5,
        trim_share=0.2,
        manifest=manifest,
    )
    calibrated = Calibrator(names, manifest.calibrations).apply(answers)
    present = np.ones(answers.shape[:2], dtype=np.bool_)
    found: Metrics = {}
    for name, cls in catalogue().items():
        if manifest.task in cls.tasks:
            strategy = strategy_named(name, ingredients)
            if isinstance(strategy, UsesFeatures):
                strategy = strategy.given(features)
            source = calibrated if cls.calibrated else answers
            found[name] = evaluate_answers(manifest.task, truth, strategy.combine(source, present))
    return found
