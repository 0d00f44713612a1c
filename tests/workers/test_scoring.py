"""A model's answers judged row by row: the guilty rows are refused, nobody else."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import scoring
from workers.protocol import UnavailableError
from workers.scoring import FUTILE_CALLS, FUTILE_ROWS, MAX_CALLS, Effort, called, kind_of, refused


def score(predict, rows, minimum=None, maximum=None, columns=1):
    ask = partial(called, predict, columns=columns)
    return scoring.score(ask, rows, minimum, maximum, columns)


def matrix(rows: int) -> np.ndarray:
    return np.column_stack([np.arange(rows), np.linspace(0, 1, rows)]).astype(np.float64)


def good(rows: np.ndarray) -> np.ndarray:
    return rows[:, 1] * 0.5 + 0.25


def raises(error: Exception):
    def answer(rows):
        raise error

    return answer


# What goes wrong with a whole call, and the value that is wrong for single rows.
CALLS = {
    "raises": raises(ValueError("no such customer")),
    "raises in silence": raises(KeyError()),
    "too few": lambda rows: np.zeros(len(rows) - 1),
    "matrix": lambda rows: np.zeros((len(rows), 2)),
    "text": lambda rows: ["high"] * len(rows),
    "none at all": lambda rows: None,
    "objects": lambda rows: [object()] * len(rows),
}
VALUES = {"NaN": np.nan, "infinity": -np.inf, "None": None, "above": 1.7, "below": -0.001}


class Fails:
    """A model that does one wrong thing whenever a guilty row is among those it is given."""

    def __init__(self, guilty: set[int], how: str) -> None:
        self.guilty, self.how, self.calls = guilty, how, 0

    def __call__(self, rows):
        self.calls += 1
        bad = [row in self.guilty for row in rows[:, 0].tolist()]
        if any(bad) and self.how in CALLS:
            return CALLS[self.how](rows)
        answer = good(rows).tolist()
        wrong = VALUES.get(self.how)
        return [wrong if b else value for b, value in zip(bad, answer, strict=True)]


REASONS = {
    "raises": "raised ValueError: no such customer",
    "raises in silence": "raised KeyError",
    "too few": "returned 0 scores for 1 rows",
    "matrix": "returned shape (1, 2) for 1 rows",
    "text": "returned <U4 instead of numbers",
    "none at all": "returned shape () for 1 rows",
    "objects": "returned what are no numbers",
    "NaN": "returned NaN",
    "infinity": "returned -infinity",
    "None": "returned NaN",
    "above": "1.7 outside [0, 1]",
    "below": "-0.001 outside [0, 1]",
}


@given(
    rows=st.integers(0, 70), guilty=st.sets(st.integers(0, 69)), how=st.sampled_from(list(REASONS))
)
def test_exactly_the_guilty_rows_are_refused_and_the_others_keep_their_value(rows, guilty, how):
    given_matrix = matrix(rows)
    kept = given_matrix.copy()
    scores = score(Fails(guilty, how), given_matrix, 0.0, 1.0)
    guilty = {row for row in guilty if row < rows}
    assert scores.refusals == dict.fromkeys(guilty, REASONS[how])
    fine = [row for row in range(rows) if row not in guilty]
    assert scores.values[fine].tolist() == good(kept)[fine].tolist()
    assert np.isnan(scores.values[list(guilty)]).all()
    assert np.array_equal(given_matrix, kept)


@pytest.mark.parametrize("how", list(REASONS))
def test_every_reason_has_a_kind(how):
    assert kind_of(REASONS[how]) in {"raised", "returned", "outside"}


def test_a_batch_without_fault_is_one_call():
    model = Fails(set(), "raises")
    score(model, matrix(2000))
    assert model.calls == 1


def test_one_guilty_row_among_thousands_costs_two_calls_for_each_halving():
    model = Fails({1234}, "raises")
    assert list(score(model, matrix(2000)).refusals) == [1234]
    assert model.calls <= 2 * 11 + 1


def test_a_model_that_always_fails_is_not_asked_for_ever():
    model = Fails(set(range(20_000)), "raises")
    scores = score(model, matrix(20_000))
    assert model.calls <= MAX_CALLS
    assert len(scores.refusals) == 20_000
    assert np.isnan(scores.values).all()


def test_of_a_model_that_is_out_of_order_only_the_halves_are_tried():
    model = Fails(set(range(100)), "raises")
    scores = scoring.score(partial(called, model), matrix(100), most_calls=FUTILE_CALLS)
    assert model.calls == 3
    assert scores.refusals == dict.fromkeys(range(100), "raised ValueError: no such customer")


def test_one_that_comes_back_answers_all_it_can_at_once_and_all_soon():
    effort, model = Effort(), Fails(set(range(100)), "raises")
    ask = partial(called, model)
    for _ in range(math.ceil(FUTILE_ROWS / 100)):
        assert effort.calls == MAX_CALLS
        effort.heed(scoring.score(ask, matrix(100), most_calls=effort.calls))
    assert effort.calls == FUTILE_CALLS
    model.guilty = {7}
    first = scoring.score(ask, matrix(100), most_calls=effort.calls)
    assert set(first.refusals) == set(range(50)), "its half"
    effort.heed(first)
    assert set(scoring.score(ask, matrix(100), most_calls=effort.calls).refusals) == {7}


@given(st.lists(st.integers(1, FUTILE_ROWS - 1), max_size=20))
def test_nobody_is_out_of_order_who_answers_a_row_now_and_then(sizes):
    effort = Effort()
    for size in sizes:
        effort.heed(refused(size, "raised KeyError"))
        effort.heed(scoring.score(lambda rows: rows[:, 1], matrix(1)))
        assert effort.calls == MAX_CALLS


def test_a_batch_of_five_hundred_is_always_resolved():
    guilty = set(range(0, 512, 2))
    assert set(score(Fails(guilty, "raises"), matrix(512)).refusals) == guilty


def test_without_limits_every_finite_number_is_a_score():
    values = np.array([-5.0, 1e300, 0.0])
    scores = score(lambda rows: values[: len(rows)], matrix(3))
    assert scores.values.tolist() == values.tolist()
    assert scores.refusals == {}


def test_one_limit_alone_counts():
    scores = score(lambda rows: np.array([-5.0, 5.0]), matrix(2), minimum=0.0)
    assert scores.refusals == {0: "-5 outside [0, inf]"}


@pytest.mark.parametrize(
    "answer",
    [[0.25, 1], [[0.25], [1.0]], np.array([0.25, 1], np.float32), (np.float64(0.25), True)],
    ids=["list", "column", "float32", "tuple"],
)
def test_whatever_numpy_takes_for_two_numbers_is_an_answer(answer):
    assert score(lambda rows: answer, matrix(2), 0, 1).values.tolist() == [0.25, 1.0]


def test_a_model_that_answers_with_its_input_does_not_get_it_changed():
    given_matrix = np.array([[0.5], [7.0]])
    scores = score(lambda rows: rows[:, 0], given_matrix, 0, 1)
    assert scores.refusals == {1: "7 outside [0, 1]"}
    assert given_matrix.tolist() == [[0.5], [7.0]]


def test_a_long_message_is_cut():
    def fails(rows):
        raise RuntimeError("x" * 5000)

    assert len(score(fails, matrix(1)).refusals[0]) == 200


def test_a_model_that_was_not_asked_refuses_every_row():
    scores = refused(3, "paused")
    assert scores.refusals == {0: "paused", 1: "paused", 2: "paused"}
    assert np.isnan(scores.values).all()
    assert kind_of("paused") == "paused"
    assert kind_of("something else") == "other"


@given(st.integers(1, 3000), st.data())
def test_what_has_nothing_to_do_with_the_rows_is_not_asked_again(rows: int, data) -> None:
    """Rows that were answered before it happened keep their answers; the others are refused."""
    answers_before = data.draw(st.integers(0, 20))
    calls = 0

    def predict(some: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > answers_before:
            raise UnavailableError("gone")
        if (some[:, 0] == 0).any() and len(some) > 1:
            raise ValueError("the first row")
        return good(some)

    scores = score(predict, matrix(rows))
    reasons = set(scores.refusals.values())
    assert calls <= answers_before + 1
    assert reasons <= {"unavailable: gone"}
    assert set(scores.refusals) == set(np.flatnonzero(np.isnan(scores.values)).tolist())
    assert all(kind_of(reason) == "unavailable" for reason in reasons)
    known = ~np.isnan(scores.values)
    np.testing.assert_array_equal(scores.values[known], good(matrix(rows))[known])


THIRDS = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]


def test_several_classes_are_rows_of_probabilities():
    scores = score(lambda rows: np.array(THIRDS, np.float32), matrix(2), 0.0, 1.0, 3)
    assert scores.values.dtype == np.float64
    np.testing.assert_allclose(scores.values, THIRDS, rtol=1e-6)
    assert scores.refusals == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([0.2, np.nan, 0.5], "returned NaN"),
        ([0.2, np.inf, np.nan], "returned infinity"),
        ([-0.1, 0.6, 0.5], "-0.1 outside [0, 1]"),
        ([0.2, 0.3, 0.4], "adds up to 0.9 instead of 1"),
        ([0.9, 0.8, 0.7], "adds up to 2.4 instead of 1"),
    ],
)
def test_a_row_that_is_no_probabilities_is_refused_as_a_whole(row, reason):
    scores = score(lambda rows: [THIRDS[0], row, THIRDS[1]], matrix(3), 0.0, 1.0, 3)
    assert scores.refusals == {1: reason}
    assert np.isnan(scores.values[1]).all()
    assert scores.values[[0, 2]].tolist() == THIRDS


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([0.5, 0.5], "returned shape (2,) for 2 rows of 3 classes"),
        ([[0.5, 0.5]] * 2, "returned shape (2, 2) for 2 rows of 3 classes"),
        ([[0.2, 0.3, 0.5]] * 4, "returned 4 scores for 2 rows"),
    ],
)
def test_another_number_of_classes_is_refused(answer, reason):
    refusals = score(lambda rows: answer, matrix(2), 0.0, 1.0, 3).refusals
    assert set(refusals) == {0, 1}
    assert reason.split(" for ")[0].split(" scores")[0] in refusals[0]


def test_a_model_of_classes_that_was_not_asked_refuses_rows_of_classes():
    assert refused(2, "paused", 3).values.shape == (2, 3)
    assert kind_of("adds up to 0.9 instead of 1") == "adds"
