"""What is learned about where members are good, against its definitions."""

import numpy as np
import pytest

from lab.competence import REGIONS, VALIDATION_ROWS, errors_of, fit_competence, space_of
from registry.competence import Numbers, decode_competence
from streams.features import Feature, FeatureSchema

ROWS = 3000
RANDOM = np.random.default_rng(6)
SCHEMA = FeatureSchema(
    (
        Feature("x", "number"),
        Feature("y", "number", required=False),
        Feature("colour", "category", vocabulary=("blue", "red")),
    )
)
MATRIX = np.column_stack(
    [RANDOM.normal(5, 3, ROWS), RANDOM.normal(size=ROWS), RANDOM.integers(0, 2, ROWS)]
)
MATRIX[RANDOM.random(ROWS) < 0.1, 1] = np.nan
LABELS = (RANDOM.random(ROWS) < 0.4).astype(np.float64)
ANSWERS = np.clip(LABELS[:, None] * 0.3 + RANDOM.random((ROWS, 3)) * 0.7, 0, 1)[:, :, None]
FOUND = fit_competence(["a", "b", "c"], SCHEMA, MATRIX, ANSWERS, ANSWERS, LABELS, seed=1)


def test_the_same_data_give_the_same_bytes_and_they_are_read_back() -> None:
    again = fit_competence(["a", "b", "c"], SCHEMA, MATRIX, ANSWERS, ANSWERS, LABELS, seed=1)
    assert again.encode() == FOUND.encode()
    assert decode_competence(FOUND.encode()) == FOUND


def test_validation_rows_are_rows_of_the_data_with_their_answers() -> None:
    rows = FOUND.rows.array
    assert rows.shape == (VALIDATION_ROWS, 3)
    places = [int(np.flatnonzero(MATRIX[:, 0] == x)[0]) for x in rows[:50, 0]]
    np.testing.assert_array_equal(rows[:50], MATRIX[places])
    np.testing.assert_array_equal(FOUND.answers.array[:50], ANSWERS[places])
    np.testing.assert_array_equal(FOUND.labels.array[:50], LABELS[places])


def test_the_moments_are_those_of_what_is_there() -> None:
    np.testing.assert_allclose(FOUND.means, np.nanmean(MATRIX, axis=0))
    np.testing.assert_allclose(FOUND.scales, np.nanstd(MATRIX, axis=0))


def test_the_losses_of_regions_are_mean_squared_errors() -> None:
    places = space_of(SCHEMA, np.array(FOUND.means), np.array(FOUND.scales)).place(MATRIX)
    centres = FOUND.centres.array
    region = np.square(places[:, None, :] - centres[None]).sum(axis=2).argmin(axis=1)
    assert len(centres) == REGIONS
    expected = [
        np.square(ANSWERS[region == r, :, 0] - LABELS[region == r, None]).mean(axis=0)
        for r in range(REGIONS)
    ]
    np.testing.assert_allclose(FOUND.region_losses.array, expected, rtol=1e-10)


def test_products_and_disagreement_are_those_of_pairs() -> None:
    errors = ANSWERS[:, :, 0] - LABELS[:, None]
    said = ANSWERS[:, :, 0] >= 0.5
    for one in range(3):
        for other in range(3):
            assert FOUND.products.array[one, other] == pytest.approx(
                (errors[:, one] * errors[:, other]).mean(), rel=1e-12
            )
            assert FOUND.disagreement.array[one, other] == pytest.approx(
                (said[:, one] != said[:, other]).mean(), abs=1e-12
            )


def test_hits_are_right_labels() -> None:
    said = (FOUND.answers.array[:, :, 0] >= 0.5).astype(float)
    expected = said == FOUND.labels.array[:, None]
    np.testing.assert_array_equal(FOUND.hits(FOUND.answers.array), expected)


def test_several_classes_and_values_have_errors_too() -> None:
    answers = np.array([[[0.2, 0.8, 0.0]], [[1.0, 0.0, 0.0]]])
    found = errors_of(answers, np.array([1.0, 2.0]), classify=True)
    np.testing.assert_allclose(found[:, 0], [[0.2, -0.2, 0.0], [1.0, 0.0, -1.0]])
    values = errors_of(np.array([[[3.0], [5.0]]]), np.array([4.0]), classify=False)
    assert values[0, :, 0].tolist() == [-1.0, 1.0]


def test_values_disagree_where_they_do_not_correlate() -> None:
    values = RANDOM.normal(size=(ROWS, 2, 1))
    values = np.concatenate([values, values[:, :1] * 2 + 1], axis=1)
    found = fit_competence(
        ["a", "b", "c"], SCHEMA, MATRIX, values, values, LABELS, seed=0, classify=False
    ).disagreement.array
    assert found[0, 2] == pytest.approx(0.0, abs=1e-12)
    assert found[0, 1] == pytest.approx(1.0, abs=0.1)


def test_numbers_that_do_not_fill_their_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"16 bytes are no numbers of shape \(3,\)"):
        Numbers((3,), b"\0" * 16)
