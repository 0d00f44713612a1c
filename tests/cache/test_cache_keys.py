"""Different things have different keys, equal things have equal ones, and none is long."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cache import keys

NAMES = st.text(st.sampled_from(":%#3A5ab\n\0é"), max_size=6) | st.text(max_size=2000)
MATRICES = arrays.arrays(
    np.float64,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4),
    elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, 5e-324]),
)
ODD_NAN = np.frombuffer((0x7FF8_0000_0000_0123).to_bytes(8, "little"), "<f8")[0]


def test_the_layout_is_a_promise_to_running_systems() -> None:
    assert keys.latest("credit", "c:17") == b"se1:latest:credit:c%3A17"
    row = np.array([1.0, 2.0])
    assert keys.prediction("rf", "0a1b", row) == b"se1:prediction:rf:0a1b:" + bytes.fromhex(
        "b3a3a5c70035515eba3262d0c8238cb0"
    )


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
@example(("a:b", "c"), ("a", "b:c"))
@example(("a", "%3A"), ("a", ":"))
@example(("a", "x" * 500), ("a", "x" * 501))
def test_different_places_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (keys.latest(*one) == keys.latest(*other)) == (one == other)
    row = np.zeros(1)
    same = keys.prediction(*one, row) == keys.prediction(*other, row)
    assert same == (one == other)


def test_a_long_entity_never_meets_one_that_looks_like_its_hash() -> None:
    key = keys.latest("a", "x" * 500)
    looks_like_it = key.removeprefix(b"se1:latest:a:").decode()
    assert looks_like_it.startswith("%#")
    assert keys.latest("a", looks_like_it) != key


@given(NAMES, NAMES)
@example("%" * 5000, "\ud800" * 5000)
def test_no_key_is_long(name: str, entity: str) -> None:
    assert len(keys.latest(name, entity)) <= keys.MAX_KEY_BYTES
    assert len(keys.prediction(name, entity, np.zeros(3))) <= keys.MAX_KEY_BYTES


def test_common_entities_stay_readable() -> None:
    urn = "urn:uuid:123e4567-e89b-12d3-a456-426614174000"
    assert keys.latest("credit", urn).decode().endswith(urn.replace(":", "%3A"))


@given(NAMES, st.lists(NAMES, max_size=5))
def test_many_entities_have_the_keys_of_each(name: str, entities: list[str]) -> None:
    assert keys.latest_keys(name, entities) == [keys.latest(name, entity) for entity in entities]


@given(MATRICES)
def test_rows_have_equal_keys_when_their_values_are_equal(matrix: np.ndarray) -> None:
    row_keys = keys.prediction_keys("m", "1", matrix)
    assert len(row_keys) == len(matrix)
    for key, row in zip(row_keys, matrix, strict=True):
        assert key == keys.prediction("m", "1", row)
        for other_key, other in zip(row_keys, matrix, strict=True):
            assert (key == other_key) == np.array_equal(row, other, equal_nan=True)


def test_every_nan_is_the_same_missing_value_and_zero_has_no_sign() -> None:
    assert np.isnan(ODD_NAN)
    matrix = np.array([[ODD_NAN, 0.0], [-np.nan, -0.0], [np.nan, 0.0]])
    before = matrix.tobytes()
    assert len(set(keys.prediction_keys("m", "1", matrix))) == 1
    assert matrix.tobytes() == before, "the matrix is not written to"


def test_the_layout_of_the_matrix_in_memory_does_not_matter() -> None:
    matrix = np.arange(12.0).reshape(3, 4)
    expected = keys.prediction_keys("m", "1", matrix)
    assert keys.prediction_keys("m", "1", np.asfortranarray(matrix)) == expected
    assert keys.prediction_keys("m", "1", np.repeat(matrix, 2, axis=0)[::2]) == expected
    matrix.flags.writeable = False
    assert keys.prediction_keys("m", "1", matrix) == expected


def test_model_and_version_are_part_of_the_key() -> None:
    row = np.zeros(2)
    assert len({keys.prediction(*who, row) for who in [("a", "1"), ("a", "2"), ("b", "1")]}) == 3


def test_a_vector_is_not_a_matrix() -> None:
    with pytest.raises(AssertionError):
        keys.prediction_keys("m", "1", np.zeros(3))


@given(st.lists(st.binary(max_size=1), max_size=20))
def test_unique_rows_point_to_first_sights(names: list[bytes]) -> None:
    first_index, inverse = keys.unique_rows(names)
    assert [names[first_index[at]] for at in inverse] == names
    assert first_index.tolist() == [names.index(name) for name in dict.fromkeys(names)]
    assert first_index.dtype == inverse.dtype == np.int64
