"""Agreement, dispersion and entropy against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from combiner.confidence import agreement, dispersion, entropy


def test_agreement_is_the_weight_of_those_present_with_the_label() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 1]])
    present = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 1, 1]], dtype=np.bool_)
    weights = np.array([1.0, 2.0, 1.0])
    found = agreement(labels, np.array([1, 1, 0, 1]), present, weights)
    np.testing.assert_allclose(found, [3 / 4, 1 / 3, 1.0, 1 / 3])


def test_where_nobody_weighs_anything_all_count_alike() -> None:
    labels, present = np.array([[1, 0, 1]]), np.array([[True, True, False]])
    found = agreement(labels, np.array([1]), present, np.array([0.0, 0.0, 1.0]))
    assert found.tolist() == [0.5]


@given(st.integers(1, 4), st.integers(0, 2**32))
def test_dispersion_is_the_standard_deviation_of_those_present(columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    answers = random.random((6, 5, columns))
    present = random.random((6, 5)) < 0.5
    present[:, 0] = True
    answers[~present] = np.nan
    expected = [
        np.sqrt(row[here].var(axis=0).sum()) for row, here in zip(answers, present, strict=True)
    ]
    np.testing.assert_allclose(dispersion(answers, present), expected, atol=1e-12)


def test_whoever_is_alone_does_not_disperse() -> None:
    assert dispersion(np.array([[[0.3], [np.nan]]]), np.array([[True, False]])).tolist() == [0.0]


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_entropy_is_shannons_over_its_largest(columns: int) -> None:
    scores = np.random.default_rng(columns).random((40, columns))
    if columns > 1:
        scores /= scores.sum(axis=1, keepdims=True)
    whole = np.column_stack([1 - scores, scores]) if columns == 1 else scores
    expected = scipy_entropy(whole, axis=1) / np.log(whole.shape[1])
    np.testing.assert_allclose(entropy(scores), expected, rtol=1e-12)


def test_certainty_has_no_entropy_and_a_coin_has_all() -> None:
    assert entropy(np.array([[0.0], [1.0], [0.5]])).tolist() == [0.0, 0.0, 1.0]
