"""Equal rows are computed once; a cache in trouble costs only computing."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from cache.keys import prediction
from cache.memory import MemoryStore
from cache.prediction_cache import CachedModel
from streams.errors import ModelError
from tests.cache.cache_kit import HandClock, ToyStore


class Summing:
    """Scores a row with its sum, and remembers what it was asked."""

    name = "sum"
    minimum: float | None = 0.0
    maximum: float | None = 10.0
    columns = 1

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.asked: list[NDArray[np.float64]] = []

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        self.asked.append(matrix.copy())
        return matrix.sum(axis=1)

    @property
    def rows_computed(self) -> int:
        return sum(map(len, self.asked))


def memory(clock: HandClock | None = None) -> MemoryStore:
    return MemoryStore(max_entries=100_000, clock=clock or HandClock())


def test_the_missing_distinct_rows_are_computed_in_one_call() -> None:
    model = Summing()
    cached = CachedModel(model, memory(), ttl_s=60)
    assert cached.predict(np.array([[1.0, 2.0]])).tolist() == [3.0]
    matrix = np.array([[5.0, 5.0], [1.0, 2.0], [5.0, 5.0], [0.0, 1.0]])
    assert cached.predict(matrix).tolist() == [10.0, 3.0, 10.0, 1.0]
    assert [asked.tolist() for asked in model.asked] == [[[1, 2]], [[5, 5], [0, 1]]]
    assert cached.predict(matrix).tolist() == [10.0, 3.0, 10.0, 1.0]
    assert len(model.asked) == 2


class Slow(Summing):
    """Leaves others the time to come in between."""

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        threading.Event().wait(0.05)
        return super().predict(matrix)


def test_a_burst_of_one_row_costs_one_row_of_work() -> None:
    model = Slow()
    cached = CachedModel(model, memory(), ttl_s=60)
    burst = np.full((500, 3), 2.0)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5):
            assert cached.predict(burst).tolist() == [6.0] * 500

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.rows_computed == 1


@given(
    arrays.arrays(
        np.float64, (6, 2), elements=st.sampled_from([0.0, -0.0, 1.0, 2.5, np.nan, np.inf])
    ),
    st.integers(0, 6),
)
def test_it_answers_as_the_model_would(matrix: NDArray[np.float64], known: int) -> None:
    cached = CachedModel(Summing(), memory(), ttl_s=60)
    cached.predict(matrix[:known])
    np.testing.assert_array_equal(cached.predict(matrix), Summing().predict(matrix))


def test_only_finite_scores_are_kept() -> None:
    store, model = ToyStore(), Summing()
    cached = CachedModel(model, store, ttl_s=7)
    matrix = np.array([[np.nan], [np.inf], [4.0]])
    for _ in range(2):
        np.testing.assert_array_equal(cached.predict(matrix), [np.nan, np.inf, 4.0])
    assert model.rows_computed == 3 + 2
    key = prediction("sum", "1", np.array([4.0]))
    assert store.content == {key: (np.array(4.0, "<f8").tobytes(), 7)}


@pytest.mark.parametrize(
    "value", [b"", b"1234567", b"123456789", np.array(np.nan).tobytes(), np.array(np.inf).tobytes()]
)
def test_garbage_in_the_cache_is_a_miss(value: bytes) -> None:
    store = ToyStore()
    store.content[prediction("sum", "1", np.array([4.0]))] = (value, 60)
    assert CachedModel(Summing(), store, ttl_s=60).predict(np.array([[4.0], [5.0]])).tolist() == [
        4.0,
        5.0,
    ]


@pytest.mark.parametrize(("reads", "writes"), [(True, False), (False, True), (True, True)])
def test_a_cache_in_trouble_means_computing(*, reads: bool, writes: bool) -> None:
    store = ToyStore()
    store.fail_reads, store.fail_writes = reads, writes
    cached = CachedModel(Summing(), store, ttl_s=60)
    for _ in range(2):
        assert cached.predict(np.array([[1.0], [1.0], [2.0]])).tolist() == [1.0, 1.0, 2.0]


def test_another_version_does_not_get_this_ones_answers() -> None:
    store, next_model = memory(), Summing("2")
    CachedModel(Summing("1"), store, ttl_s=60).predict(np.array([[1.0]]))
    CachedModel(next_model, store, ttl_s=60).predict(np.array([[1.0]]))
    assert next_model.rows_computed == 1


def test_answers_are_forgotten_after_their_time() -> None:
    clock, model = HandClock(), Summing()
    cached = CachedModel(model, memory(clock), ttl_s=60)
    cached.predict(np.array([[1.0]]))
    clock.advance_ms(60_000)
    cached.predict(np.array([[1.0]]))
    assert model.rows_computed == 2


def test_no_rows_need_no_model() -> None:
    model = Summing()
    scores = CachedModel(model, memory(), ttl_s=60).predict(np.zeros((0, 3)))
    assert scores.shape == (0,)
    assert model.asked == []


def test_the_answer_belongs_to_the_caller() -> None:
    cached = CachedModel(Summing(), memory(), ttl_s=60)
    for _ in range(2):
        scores = cached.predict(np.array([[1.0], [2.0]]))
        assert scores.tolist() == [1.0, 2.0]
        scores[:] = 0.0


def test_it_presents_itself_as_the_model() -> None:
    cached = CachedModel(Summing("9"), memory(), ttl_s=60)
    assert (cached.name, cached.version, cached.minimum, cached.maximum) == ("sum", "9", 0.0, 10.0)


class Answering(Summing):
    """Answers the same whatever it is asked, or raises it."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros(3), r"2 rows, but an answer of \(3,\)"),
        (np.zeros((2, 1)), r"2 rows, but an answer of \(2, 1\)"),
        (0.5, r"2 rows, but an answer of \(\)"),
        (["a", "b"], "not an array of numbers"),
        (None, r"2 rows, but an answer of \(\)"),
    ],
)
def test_an_answer_that_is_not_one_number_per_row_is_refused(answer: object, message: str) -> None:
    store = ToyStore()
    cached = CachedModel(Answering(answer), store, ttl_s=60)
    with pytest.raises(ModelError, match=message):
        cached.predict(np.array([[1.0], [2.0]]))
    assert store.content == {}


def test_a_model_that_raises_is_heard_and_may_try_again() -> None:
    model = Answering(RuntimeError("no"))
    cached = CachedModel(model, memory(), ttl_s=60)
    with pytest.raises(RuntimeError, match="no"):
        cached.predict(np.array([[1.0]]))
    model.answer = [0.5]
    assert cached.predict(np.array([[1.0]])).tolist() == [0.5]


class Sharing(Summing):
    """Three numbers a row, one of which may be none."""

    columns = 3

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        self.asked.append(matrix.copy())
        return np.column_stack([matrix[:, 0], 2 * matrix[:, 0], 1 / (matrix[:, 0] - 9)])


def test_rows_of_several_numbers_are_remembered_as_a_whole() -> None:
    model = Sharing()
    cached = CachedModel(model, memory(), ttl_s=60)
    matrix = np.array([[1.0], [2.0], [1.0]])
    first = cached.predict(matrix)
    assert first.shape == (3, 3)
    assert np.array_equal(cached.predict(matrix), first)
    assert model.rows_computed == 2
    with np.errstate(divide="ignore"):
        cached.predict(np.array([[9.0]]))
        cached.predict(np.array([[9.0]]))
    assert model.rows_computed == 4  # what is not finite is not stored
    assert cached.predict(np.empty((0, 1))).shape == (0, 3)


def test_what_was_stored_with_another_number_of_columns_is_computed_again() -> None:
    store = memory()
    CachedModel(Summing(), store, ttl_s=60).predict(np.array([[1.0]]))
    assert CachedModel(Sharing(), store, ttl_s=60).predict(np.array([[1.0]])).shape == (1, 3)
