"""Commits that were refused are made again; none that was overtaken undoes the one before it."""

import hypothesis.strategies as st
from hypothesis import given

from streams.columns import Position
from streams.unconfirmed import Unconfirmed

A, B = ("events", 0), ("events", 1)


def test_what_was_refused_goes_out_again_once_and_in_its_newest_form():
    unconfirmed = Unconfirmed()
    assert unconfirmed.add({A: Position(3), B: Position(7)}) == {A: Position(3), B: Position(7)}
    unconfirmed.confirm(B, Position(7))
    unconfirmed.refuse(A)
    assert unconfirmed.add({B: Position(9)}) == {A: Position(3), B: Position(9)}
    assert unconfirmed.add({}) == {}
    unconfirmed.add({A: Position(4, "beside it")})
    unconfirmed.refuse(A)
    assert unconfirmed.add({}) == {A: Position(4, "beside it")}


def test_a_late_answer_says_nothing_of_what_was_asked_for_since():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3)})
    unconfirmed.add({A: Position(3, "newer")})
    unconfirmed.confirm(A, Position(3))
    assert unconfirmed.add_all({}) == {A: Position(3, "newer")}


def test_what_has_no_answer_goes_out_with_the_last_commit():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3)})
    assert unconfirmed.add({}) == {}
    assert unconfirmed.add_all({B: Position(1)}) == {A: Position(3), B: Position(1)}


def test_partitions_that_went_are_not_committed_any_more():
    unconfirmed = Unconfirmed()
    unconfirmed.add({A: Position(3), B: Position(4)})
    unconfirmed.refuse(A)
    unconfirmed.forget([A])
    unconfirmed.refuse(A)  # an answer that comes late
    assert unconfirmed.add_all({}) == {B: Position(4)}


@given(st.lists(st.tuples(st.sampled_from(["move", "idle"]), st.booleans()), max_size=30))
def test_a_broker_that_answers_at_last_has_the_newest_position(turns: list[tuple[str, bool]]):
    unconfirmed, broker, newest = Unconfirmed(), Position(0), Position(0)
    for turn, (kind, works) in enumerate([*turns, ("idle", True)], start=1):
        if kind == "move":
            newest = Position(turn)
        asked = unconfirmed.add({A: newest} if kind == "move" else {})
        for place, position in asked.items():
            if works:
                broker = position
                unconfirmed.confirm(place, position)
            else:
                unconfirmed.refuse(place)
    assert broker == newest
