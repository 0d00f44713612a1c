"""Cross-fitting, and coverage that holds on rows nobody has seen, whoever is missing."""

import numpy as np
import pytest

from combiner.conformal import PredictionIntervals, PredictionSets, chances
from combiner.recalibration import Recalibrator
from lab.certainty import CertaintyOptions, cross_combined, fit_certainty, subsets
from lab.metrics import calibration_error
from lab.thresholds import criterion_of
from streams.errors import DataError

MEMBERS = ["a", "b", "c"]
NOISE = np.array([0.5, 1.0, 2.0])


def made_up(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Over-confident answers float64[N, M, 1] of three members, and labels."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-1.5 * signal))).astype(np.float64)
    seen = signal[:, None] + NOISE * random.normal(size=(rows, 3))
    return 1 / (1 + np.exp(-4 * seen))[:, :, None], labels


def mean_of(answers: np.ndarray, present: np.ndarray) -> np.ndarray:
    return (answers[:, :, 0] * present).sum(axis=1, keepdims=True) / present.sum(
        axis=1, keepdims=True
    )


def fitted(answers: np.ndarray, labels: np.ndarray, options: CertaintyOptions):
    combined = cross_combined(
        lambda _: lambda test, present: mean_of(answers[test], present),
        len(labels),
        subsets(3, 0),
        folds=3,
        seed=0,
    )
    return fit_certainty(MEMBERS, combined, answers, labels, options)


def test_no_row_is_scored_by_what_learned_from_it() -> None:
    seen: list[set[int]] = []

    def learn(rows):
        def score(test, present):
            assert not set(rows.tolist()) & set(test.tolist())
            assert len(rows) + len(test) == 50
            seen.append(set(test.tolist()))
            return test[:, None] * 1.0

        return score

    combined = cross_combined(learn, 50, {"1": [np.array([True])]}, folds=4, seed=1)
    assert sorted(row for part in seen for row in part) == list(range(50))
    np.testing.assert_array_equal(combined["1"][0][:, 0], np.arange(50))


def test_of_many_members_counts_stand_for_most_subsets() -> None:
    found = subsets(10, 0)
    assert {f"#{count}" for count in range(1, 10)} <= found.keys()
    assert "1" * 10 in found
    for key, some in found.items():
        count = int(key[1:]) if key.startswith("#") else key.count("1")
        assert {int(bits.sum()) for bits in some} == {count}
    assert not any(key.startswith("#") for key in subsets(8, 0))


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_coverage_holds_for_each_subset_and_sets_grow_with_what_is_missing(method) -> None:
    everything = {key: some[0] for key, some in subsets(3, 0).items()}
    covered = {key: [] for key in everything}
    sizes = {key: [] for key in everything}
    for repeat in range(30):
        answers, labels = made_up(3000, repeat)
        fit = fitted(answers[:1500], labels[:1500], CertaintyOptions(conformal=method))
        assert fit.conformal is not None
        sets = PredictionSets(fit.conformal, [0, 1, 2])
        for key, bits in everything.items():
            present = np.tile(bits, (1500, 1))
            scores = mean_of(answers[1500:], present)
            inside = sets.of(scores, present, chances(repeat, np.arange(1500)))
            covered[key].append(inside[np.arange(1500), labels[1500:].astype(int)].mean())
            sizes[key].append(inside.sum(axis=1).mean())
    for key, shares in covered.items():
        assert abs(np.mean(shares) - 0.9) < 0.01, key
    assert np.mean(sizes["111"]) < np.mean(sizes["011"]) < np.mean(sizes["001"])


@pytest.mark.parametrize("method", ["absolute", "normalised"])
def test_intervals_cover_and_widen_when_members_are_missing(method) -> None:
    keys = ("111", "001")
    covered: dict[str, list[float]] = {key: [] for key in keys}
    widths: dict[str, list[float]] = {key: [] for key in keys}
    for repeat in range(30):
        random = np.random.default_rng(repeat)
        truth = random.normal(size=2000)
        answers = (truth[:, None] + NOISE * random.normal(size=(2000, 3)))[:, :, None]
        options = CertaintyOptions(conformal=method, coverage=0.8)
        fit = fitted(answers[:1000], truth[:1000], options)
        intervals = PredictionIntervals(fit.conformal, [0, 1, 2])
        for key in keys:
            present = np.tile([digit == "1" for digit in key], (1000, 1))
            scores = mean_of(answers[1000:], present)
            low, high = intervals.of(scores, answers[1000:], present).T
            covered[key].append(((low <= truth[1000:]) & (truth[1000:] <= high)).mean())
            widths[key].append((high - low).mean())
    for key, shares in covered.items():
        assert abs(np.mean(shares) - 0.8) < 0.01, key
    assert np.mean(widths["111"]) < np.mean(widths["001"])


@pytest.mark.parametrize("method", ["isotonic", "platt", "temperature"])
def test_calibration_repairs_every_subset(method) -> None:
    answers, labels = made_up(8000, 1)
    fit = fitted(answers[:4000], labels[:4000], CertaintyOptions(calibration=method))
    calibrator = Recalibrator([0, 1, 2], fit.calibrations)
    for key in fit.calibrations:
        present = np.tile([digit == "1" for digit in key], (4000, 1))
        scores = mean_of(answers[4000:], present)
        before = calibration_error(labels[4000:].astype(int), scores[:, 0])
        after = calibration_error(
            labels[4000:].astype(int), calibrator.apply(scores, present)[:, 0]
        )
        # One number cannot bend a curve; what is left of it differs between the three.
        assert after < 0.6 * before, key


def test_the_threshold_is_one_of_calibrated_scores() -> None:
    answers, labels = made_up(4000, 2)
    options = CertaintyOptions(calibration="platt", threshold=criterion_of("cost:1,4"))
    found = fitted(answers, labels, options).threshold
    assert found is not None
    # For a probability that is right, the cheapest cut is FP / (FP + FN).
    assert found.threshold == pytest.approx(0.2, abs=0.05)


def test_too_few_rows_and_too_many_classes_are_refused() -> None:
    answers, labels = made_up(8, 0)
    with pytest.raises(DataError, match=r"coverage 0\.9: 8 rows; expected 9 or more"):
        fitted(answers, labels, CertaintyOptions(conformal="lac"))
    with pytest.raises(DataError, match="a threshold is chosen between two classes"):
        fitted(answers, labels + 1, CertaintyOptions(threshold=criterion_of("f1")))
