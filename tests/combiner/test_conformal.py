"""Sets and intervals hold what they promise, for each subset of members."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner.confidence import classes_of
from combiner.conformal import (
    PredictionIntervals,
    PredictionSets,
    chances,
    label_scores,
    quantile_of,
)
from registry.certainty import Conformal, Quantile

REPEATS = 400


def drawn(random: np.random.Generator, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right, float64[rows, K], and labels drawn by them."""
    if classes == 2:
        scores = random.beta(0.5, 1.5, (rows, 1))
    else:
        scores = random.dirichlet(np.full(classes, 0.5), rows)
    cumulative = classes_of(scores).cumsum(axis=1)
    labels = (random.random((rows, 1)) > cumulative).sum(axis=1)
    return scores, np.minimum(labels, classes - 1)


def truth_scores(method, scores, labels, chance) -> np.ndarray:
    return label_scores(method, classes_of(scores), chance)[np.arange(len(labels)), labels]


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("coverage", [0.7, 0.9])
@pytest.mark.parametrize("rounded", [False, True])
def test_sets_hold_the_truth_as_often_as_promised(method, classes, coverage, rounded) -> None:
    random = np.random.default_rng(17)
    covered = []
    for repeat in range(REPEATS):
        scores, labels = drawn(random, 400, classes)
        if rounded:  # few distinct scores: without a rule for ties coverage would be too high
            scores = np.round(scores * 4) / 4
        chance = chances(repeat, np.arange(400))
        known = truth_scores(method, scores[:200], labels[:200], chance[:200])
        fit = Conformal(method, coverage, {"1": quantile_of(known, coverage)})
        present = np.ones((200, 1), dtype=np.bool_)
        inside = PredictionSets(fit, [0]).of(scores[200:], present, chance[200:])
        covered.append(inside[np.arange(200), labels[200:]].mean())
    error = np.std(covered) / np.sqrt(REPEATS)
    assert abs(np.mean(covered) - coverage) < 4 * error < 0.01


@pytest.mark.parametrize("method", ["absolute", "normalised"])
def test_intervals_hold_the_truth_as_often_as_promised(method) -> None:
    random = np.random.default_rng(23)
    covered, widths = [], []
    for _ in range(REPEATS):
        truth = random.normal(size=400)
        noise = random.gamma(2.0, 0.3, (400, 1)) * random.normal(size=(400, 3))
        answers = (truth[:, None] + noise)[:, :, None]
        scores = answers.mean(axis=1)
        present = np.ones((400, 3), dtype=np.bool_)
        unit = PredictionIntervals(Conformal(method, 0.9, {"111": Quantile(1.0)}, 0.1), [0, 1, 2])
        ranges = unit.of(scores[:200], answers[:200], present[:200])
        residuals = np.abs(truth[:200] - scores[:200, 0]) / (ranges[:, 1] - ranges[:, 0]) * 2
        fit = Conformal(method, 0.9, {"111": quantile_of(residuals, 0.9)}, 0.1)
        ranges = PredictionIntervals(fit, [0, 1, 2]).of(scores[200:], answers[200:], present[200:])
        covered.append(((ranges[:, 0] <= truth[200:]) & (truth[200:] <= ranges[:, 1])).mean())
        widths.append(np.std(ranges[:, 1] - ranges[:, 0]))
    error = np.std(covered) / np.sqrt(REPEATS)
    # One of N + 1: with a continuous score coverage lies above by less than that.
    assert -4 * error < np.mean(covered) - 0.9 < 1 / 201 + 4 * error
    assert (np.mean(widths) < 1e-12) == (method == "absolute")


def test_sets_widen_when_members_are_missing() -> None:
    fit = Conformal("lac", 0.9, {"11": Quantile(0.4), "10": Quantile(0.8)})
    scores = np.array([[0.5], [0.5], [0.3], [0.3]])
    present = np.array([[True, True], [True, False]] * 2)
    found = PredictionSets(fit, [0, 1]).of(scores, present, np.full(4, 0.5))
    assert found.tolist() == [[False, False], [True, True], [True, False], [True, True]]


def test_aps_adds_up_the_likelier_labels() -> None:
    found = label_scores("aps", np.array([[0.2, 0.5, 0.3]]), np.array([0.5]))
    np.testing.assert_allclose(found, [[0.9, 0.25, 0.65]])


def test_a_quantile_is_the_place_among_one_more() -> None:
    assert quantile_of(np.arange(99.0), 0.9) == Quantile(89.0, 1.0)
    assert quantile_of(np.arange(9.0), 0.9) == Quantile(8.0, 1.0)
    with pytest.raises(ValueError, match="8 rows; expected 9 or more"):
        quantile_of(np.arange(8.0), 0.9)


def test_of_ties_the_share_that_is_needed_is_in() -> None:
    scores = np.concatenate([np.zeros(60), np.ones(39)])
    found = quantile_of(scores, 0.8)
    assert (found.value, found.ties) == (1.0, pytest.approx(20 / 39))


@given(st.integers(0, 200), st.integers(0, 2**62))
def test_chances_are_of_the_event_alone(partition: int, offset: int) -> None:
    offsets = np.arange(offset, offset + 50)
    found = chances(partition, offsets)
    assert ((found >= 0) & (found < 1)).all()
    np.testing.assert_array_equal(chances(partition, offsets[7:9]), found[7:9])


def test_chances_are_spread_evenly_and_differ_between_partitions() -> None:
    found = chances(3, np.arange(100_000))
    counts, _ = np.histogram(found, bins=20, range=(0, 1))
    assert np.square(counts - 5000).sum() / 5000 < 50  # chi-squared, 19 degrees of freedom
    other = chances(4, np.arange(100_000))
    assert abs(np.corrcoef(found, other)[0, 1]) < 0.015
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.015
