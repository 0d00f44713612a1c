"""Thresholds against scikit-learn's metrics at every cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from lab.thresholds import best_threshold, criterion_of
from streams.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=40)


RANDOM = np.random.default_rng(1)


def value_at(text: str, threshold: float, scores: np.ndarray, labels: np.ndarray) -> float:
    """The criterion at a threshold, straight from its definition; more is better."""
    said = scores >= threshold
    tp, fp = float(said[labels == 1].sum()), float(said[labels == 0].sum())
    fn, tn = float((labels == 1).sum()) - tp, float((labels == 0).sum()) - fp
    if text == "f1":
        return 2 * tp / max(2 * tp + fp + fn, 1.0)
    if text == "mcc":
        under = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return (tp * tn - fp * fn) / np.sqrt(under) if under else 0.0
    if text == "youden":
        return tp / max(tp + fn, 1.0) + tn / max(fp + tn, 1.0) - 1.0
    return -(3.0 * fp + 20.0 * fn) / len(labels)


@pytest.mark.parametrize("text", ["f1", "mcc", "youden", "cost:3,20"])
@settings(max_examples=50)
@given(pairs=PAIRS)
def test_no_other_threshold_is_better(text: str, pairs) -> None:
    scores = np.array([score for score, _ in pairs]) / 6.0
    labels = np.array([label for _, label in pairs])
    if text == "youden" and len(set(labels.tolist())) == 1:
        return  # of one label there is either no sensitivity or no specificity
    found = best_threshold(criterion_of(text), scores, labels)
    reached = value_at(text, found.threshold, scores, labels)
    sign = -1.0 if text.startswith("cost") else 1.0
    assert found.criterion == text
    assert sign * found.value == pytest.approx(reached, abs=1e-12)
    for cut in [*np.unique(scores), 2.0]:
        assert value_at(text, cut, scores, labels) <= reached + 1e-12


def test_the_values_are_scikit_learns() -> None:
    labels = (RANDOM.random(500) < 0.3).astype(np.int64)
    scores = RANDOM.random(500) + 0.3 * labels
    for text, metric in (("f1", f1_score), ("mcc", matthews_corrcoef)):
        found = best_threshold(criterion_of(text), scores, labels)
        assert found.value == pytest.approx(metric(labels, scores >= found.threshold), abs=1e-12)
    found = best_threshold(criterion_of("youden"), scores, labels)
    sensitivity, fall_out = (scores[labels == k] >= found.threshold for k in (1, 0))
    assert found.value == pytest.approx(sensitivity.mean() - fall_out.mean(), abs=1e-12)


def test_the_threshold_lies_between_the_scores_it_separates() -> None:
    scores, labels = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])
    assert best_threshold(criterion_of("f1"), scores, labels).threshold == pytest.approx(0.4)


def test_of_neighbouring_floats_the_upper_one_is_the_threshold() -> None:
    scores = np.array([0.5, np.nextafter(0.5, 1.0)])
    found = best_threshold(criterion_of("youden"), scores, np.array([0, 1]))
    assert found.threshold == scores[1]


def test_where_a_miss_costs_nothing_nobody_is_accused() -> None:
    scores, labels = np.array([0.3, 0.7, 1.0]), np.array([1, 1, 0])
    found = best_threshold(criterion_of("cost:1,0"), scores, labels)
    assert not (scores >= found.threshold).any()
    assert np.isfinite(found.threshold)
    assert found.value == 0.0


def test_where_an_alarm_costs_nothing_everybody_is_asked() -> None:
    scores, labels = np.array([0.3, 0.7]), np.array([1, 0])
    found = best_threshold(criterion_of("cost:0,5"), scores, labels)
    assert (scores >= found.threshold).all()


@pytest.mark.parametrize(
    "text", ["accuracy", "cost", "cost:1", "cost:a,b", "cost:-1,2", "cost:inf,1", "price:1,2", ""]
)
def test_what_is_no_criterion_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected f1, mcc, youden, or cost:"):
        criterion_of(text)
