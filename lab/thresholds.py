"""The score from which on the label should be 1: best for a metric, or cheapest.

Every way to cut the rows is tried at once; the threshold lies in the middle between the two
scores that it separates, so that it means the same for scores never seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.certainty import Threshold
from streams.errors import DataError

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

METRICS = ("f1", "mcc", "youden")
EXPECTED = "expected f1, mcc, youden, or cost:FALSE_POSITIVE,FALSE_NEGATIVE, such as cost:5,120"


@dataclass(frozen=True, slots=True)
class Criterion:
    """What a threshold is chosen for: a metric, or two costs in money (then `metric` is `cost`)."""

    metric: str
    false_positive: float = 0.0
    false_negative: float = 0.0

    def __str__(self) -> str:
        if self.metric != "cost":
            return self.metric
        return f"cost:{self.false_positive:g},{self.false_negative:g}"


def criterion_of(text: str) -> Criterion:
    """The criterion that a text names.

    >>> criterion_of("cost:5,120")
    Criterion(metric='cost', false_positive=5.0, false_negative=120.0)

    Raises:
        DataError: it names none.
    """
    if text in METRICS:
        return Criterion(text)
    kind, _, costs = text.partition(":")
    try:
        false_positive, false_negative = (float(cost) for cost in costs.split(","))
    except ValueError:
        raise DataError(f"threshold {text!r}; {EXPECTED}") from None
    if (
        kind != "cost"
        or min(false_positive, false_negative) < 0
        or not np.isfinite(false_positive + false_negative)
    ):
        raise DataError(f"threshold {text!r}; {EXPECTED}")
    return Criterion("cost", false_positive, false_negative)


def best_threshold(criterion: Criterion, scores: Floats, labels: Labels) -> Threshold:
    """The best threshold for N scores and labels of 0 and 1; of equally good ones the lowest.

    Its value is the metric, or the mean cost of a row.
    """
    cuts, true_positive, false_positive = _cuts(scores, labels)
    positives = float(labels.sum())
    negatives = len(labels) - positives
    if criterion.metric == "cost":
        missed = positives - true_positive
        money = criterion.false_positive * false_positive + criterion.false_negative * missed
        values = money / len(labels)
        best = int(np.argmin(values))
    else:
        metric = _METRICS[criterion.metric]
        values = metric(true_positive, false_positive, positives, negatives)
        best = int(np.argmax(values))
    return Threshold(str(criterion), float(cuts[best]), float(values[best]))


def _cuts(scores: Floats, labels: Labels) -> tuple[Floats, Floats, Floats]:
    """Thresholds from the lowest up, and how many true and false positives each has."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    first = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])
    positives_below = np.concatenate([[0], labels[order].cumsum()])[first]
    true_positive = np.append(labels.sum() - positives_below, 0).astype(np.float64)
    false_positive = np.append(len(labels) - first, 0) - true_positive
    distinct = ordered[first]
    between = (distinct[:-1] + distinct[1:]) / 2.0
    # Two neighbours among floats have no middle: the threshold is then the upper one, which is in.
    between = np.where(between > distinct[:-1], between, distinct[1:])
    nobody = np.nextafter(distinct[-1], np.inf)
    return np.concatenate([[0.0], between, [nobody]]), true_positive, false_positive


def _f1(hits: Floats, alarms: Floats, positives: float, negatives: float) -> Floats:
    del negatives
    return 2.0 * hits / np.maximum(hits + alarms + positives, 1.0)


def _mcc(hits: Floats, alarms: Floats, positives: float, negatives: float) -> Floats:
    """Matthews' correlation; 0 where it is not defined."""
    said = hits + alarms
    denied = positives + negatives - said
    under = np.sqrt(said * denied * positives * negatives)
    over = hits * (negatives - alarms) - alarms * (positives - hits)
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


def _youden(hits: Floats, alarms: Floats, positives: float, negatives: float) -> Floats:
    """Sensitivity plus specificity less 1."""
    return hits / max(positives, 1.0) - alarms / max(negatives, 1.0)


_METRICS = {"f1": _f1, "mcc": _mcc, "youden": _youden}
