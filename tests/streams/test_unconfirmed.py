"""What is committed at last is the newest position, however the broker answers."""

import hypothesis.strategies as st
from hypothesis import given

from streams.columns import Place, Position
from streams.unconfirmed import PATIENCE_S, Unconfirmed

A, B = ("events", 0), ("events", 1)


def test_what_was_refused_goes_out_again_once_and_in_its_newest_form():
    unconfirmed = Unconfirmed()
    both = {A: Position(3), B: Position(7)}
    assert unconfirmed.add(both, 0.0) == both
    unconfirmed.confirm(B, Position(7))
    unconfirmed.refuse(A)
    assert unconfirmed.add({B: Position(9)}, 0.0) == {A: Position(3), B: Position(9)}
    assert unconfirmed.add({}, 0.0) == {}
    unconfirmed.add({A: Position(4, "beside it")}, 0.0)
    unconfirmed.refuse(A)
    assert unconfirmed.add({}, 0.0) == {A: Position(4, "beside it")}


def test_a_late_answer_says_nothing_of_what_was_asked_for_since():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3)}, 0.0)
    unconfirmed.add({A: Position(3, "newer")}, 0.0)
    unconfirmed.confirm(A, Position(3))
    assert unconfirmed.add_all({}, 0.0) == {A: Position(3, "newer")}


def test_what_has_no_answer_goes_out_with_the_last_commit():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3)}, 0.0)
    assert unconfirmed.add({}, 0.0) == {}
    assert unconfirmed.add_all({B: Position(1)}, 0.0) == {A: Position(3), B: Position(1)}


def test_what_has_no_answer_for_long_goes_out_again_now_and_then():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3)}, 10.0)
    unconfirmed.add({B: Position(4)}, 12.0)
    assert unconfirmed.add({}, 9.9 + PATIENCE_S) == {}
    assert unconfirmed.add({}, 10.0 + PATIENCE_S) == {A: Position(3)}
    unconfirmed.confirm(B, Position(4))
    assert unconfirmed.add({}, 13.0 + PATIENCE_S) == {}
    assert unconfirmed.add({}, 10.0 + 2 * PATIENCE_S) == {A: Position(3)}


def test_what_an_older_commit_undid_goes_out_again():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3)}, 0.0)
    unconfirmed.add({A: Position(5)}, 0.0)
    unconfirmed.confirm(A, Position(5))
    unconfirmed.confirm(A, Position(3))
    assert unconfirmed.add({}, 0.0) == {A: Position(5)}


def test_partitions_that_went_are_not_committed_any_more():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3), B: Position(4)}, 0.0)
    unconfirmed.refuse(A)
    unconfirmed.forget([A])
    unconfirmed.refuse(A)  # answers that come late
    unconfirmed.confirm(A, Position(2))
    assert unconfirmed.add_all({}, 0.0) == {B: Position(4)}


class Broker:
    """Answers commits in any order, refuses some, and never answers others."""

    def __init__(self, unconfirmed: Unconfirmed) -> None:
        self.unconfirmed = unconfirmed
        self.committed = Position(0)
        self.waiting: list[Position] = []

    def ask(self, positions: dict[Place, Position]) -> None:
        self.waiting += positions.values()

    def answer(self, which: int, how: str) -> None:
        if not self.waiting:
            return
        position = self.waiting.pop(which % len(self.waiting))
        if how == "confirm":
            self.committed = position
            self.unconfirmed.confirm(A, position)
        elif how == "refuse":
            self.unconfirmed.refuse(A)


ANSWERS = st.tuples(st.integers(0, 9), st.sampled_from(["confirm", "refuse", "forget"]))


@given(st.lists(st.one_of(st.none(), ANSWERS), max_size=30))
def test_a_broker_that_answers_at_last_has_the_newest_position(
    turns: list[tuple[int, str] | None],
):
    unconfirmed, newest, now_s = Unconfirmed(), Position(0), 0.0
    broker = Broker(unconfirmed)
    for turn, answer in enumerate(turns, start=1):
        now_s += 1.0
        if answer is None:
            newest = Position(turn)
            broker.ask(unconfirmed.add({A: newest}, now_s))
        else:
            broker.ask(unconfirmed.add({}, now_s))
            broker.answer(*answer)
    for _ in range(3):  # what waits, what had no answer, and what an older one undid
        while broker.waiting:
            broker.answer(-1, "confirm")
        now_s += PATIENCE_S
        broker.ask(unconfirmed.add({}, now_s))
    assert (broker.committed, broker.waiting) == (newest, [])
