"""What is remembered of scores that left, against a dictionary that forgets nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from combiner.corrections import Finals
from combiner.facts import Facts
from combiner.selection.protocol import Context

ROWS = 8


def ints(values) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


@given(st.lists(st.one_of(st.integers(1, 12), st.sets(st.integers(0, 60), min_size=1))))
def test_each_late_answer_is_the_next_revision_of_what_was_there_before(steps) -> None:
    """A number lets so many rows leave; a set is late answers to these rows, if they left."""
    finals = Finals(ROWS)
    history: dict[int, list[tuple[float, int]]] = {}
    turn = 0.0
    for step in steps:
        turn += 1
        if isinstance(step, int):
            numbers = ints(range(len(history), len(history) + step))
            scores = numbers[:, None] + turn / 100
            labels = numbers % 2
            names = [(10 * n, f"e{n}", b"k\0") for n in numbers.tolist()]
            finals.remember(numbers, scores, labels, names)
            for number, score, label in zip(numbers, scores[:, 0], labels, strict=True):
                history[int(number)] = [(float(score), int(label))]
            continue
        numbers = ints(sorted(step))
        scores, labels = numbers[:, None] * turn, (numbers + int(turn)) % 3
        found = finals.revise(numbers, scores, labels)
        remembered = [n for n in sorted(step) if len(history) - ROWS <= n < len(history)]
        assert numbers[found.rows].tolist() == remembered
        before = [history[n][-1] for n in remembered]
        assert found.revision.tolist() == [len(history[n]) for n in remembered]
        assert found.score_before[:, 0].tolist() == [score for score, _ in before]
        assert found.label_before.tolist() == [label for _, label in before]
        assert found.score_now[:, 0].tolist() == [n * turn for n in remembered]
        assert found.changed.tolist() == [
            (n + int(turn)) % 3 != label for n, (_, label) in zip(remembered, before, strict=True)
        ]
        assert found.names == [(10 * n, f"e{n}", b"k\0") for n in remembered]
        for n in remembered:
            history[n].append((n * turn, (n + int(turn)) % 3))


def test_more_rows_at_once_than_are_remembered_leave_the_last() -> None:
    finals = Finals(ROWS)
    numbers = ints(range(100))
    names = [(n, str(n), None) for n in range(100)]
    finals.remember(numbers, numbers[:, None].astype(float), numbers, names)
    assert finals.known(numbers).tolist() == [False] * 92 + [True] * 8
    found = finals.revise(ints([95]), np.zeros((1, 1)), ints([0]))
    assert found.names == [(95, "95", None)]
    assert found.score_before.tolist() == [[95.0]]


def test_rows_that_leave_out_of_order_are_found_by_their_number() -> None:
    finals = Finals(ROWS)
    finals.remember(ints([1, 3]), np.array([[0.1], [0.3]]), ints([0, 1]))
    finals.remember(ints([0, 2]), np.array([[0.0], [0.2]]), ints([0, 0]))
    found = finals.revise(ints([0, 1, 2, 3, 4]), np.ones((5, 1)), np.ones(5, dtype=np.int64))
    assert found.score_before[:, 0].tolist() == [0.0, 0.1, 0.2, 0.3]
    assert found.changed.tolist() == [True, True, True, False]


def test_an_old_row_does_not_push_out_a_newer_one() -> None:
    finals = Finals(ROWS)
    finals.remember(ints([ROWS + 2]), np.ones((1, 1)), ints([1]))
    finals.remember(ints([2]), np.zeros((1, 1)), ints([0]))
    assert finals.known(ints([2, ROWS + 2])).tolist() == [False, True]


def test_a_score_of_several_columns() -> None:
    finals = Finals(ROWS, 3)
    finals.remember(ints([5]), np.array([[0.2, 0.5, 0.3]]), ints([1]))
    found = finals.revise(ints([5]), np.array([[0.6, 0.2, 0.2]]), ints([0]))
    assert found.score_before.tolist() == [[0.2, 0.5, 0.3]]
    assert found.changed.tolist() == [True]


def facts(*numbers: int) -> Facts:
    """Each fact is the event's number in another form."""
    texts = np.array([str(number) * (number + 1) for number in numbers], np.str_)
    values = np.array(numbers, dtype=np.float64)
    context = Context(np.array(numbers, dtype=np.int64), {"tier": texts})
    return Facts(np.column_stack([values, -values]), context, values / 10)


def test_what_was_known_of_an_event_is_remembered_as_long_as_its_score() -> None:
    finals = Finals(4)
    assert finals.facts(np.array([0])) is None
    for numbers in ([0, 1, 2], [3, 5], [4]):
        given = np.array(numbers)
        finals.remember(given, np.zeros((len(given), 1)), given, facts=facts(*numbers))
    # 4 took the place of 0, and 5 that of 1.
    found, expected = finals.facts(np.array([5, 2, 4, 3])), facts(5, 2, 4, 3)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_array_equal(found.chance, expected.chance)
    np.testing.assert_array_equal(found.context.time_ms, expected.context.time_ms)
    assert found.context.headers["tier"].tolist() == expected.context.headers["tier"].tolist()
