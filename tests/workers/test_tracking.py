"""What may be committed: never beyond an event that some model has not answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tracking import CommitTracker

A, B = ("events", 0), ("events", 1)


def test_a_position_waits_for_every_answer():
    tracker = CommitTracker()
    ticket = tracker.open(A, 10, 6)
    tracker.acknowledge(ticket, 2)
    tracker.acknowledge(ticket, 3)
    assert tracker.take_positions() == {}
    tracker.acknowledge(ticket, 1)
    assert tracker.take_positions() == {A: 10}
    assert tracker.take_positions() == {}
    assert len(tracker) == 0


def test_a_later_batch_waits_for_the_earlier_one_of_its_partition_only():
    tracker = CommitTracker()
    first, second = tracker.open(A, 10, 1), tracker.open(A, 20, 1)
    other = tracker.open(B, 5, 1)
    tracker.acknowledge(second, 1)
    tracker.acknowledge(other, 1)
    assert tracker.take_positions() == {B: 5}
    tracker.acknowledge(first, 1)
    assert tracker.take_positions() == {A: 20}


def test_a_batch_of_bad_events_needs_no_answers():
    tracker = CommitTracker()
    tracker.open(A, 10, 0)
    assert tracker.take_positions() == {A: 10}
    first = tracker.open(A, 20, 1)
    tracker.open(A, 30, 0)
    assert tracker.take_positions() == {}
    tracker.acknowledge(first, 1)
    assert tracker.take_positions() == {A: 30}


def test_a_forgotten_partition_gives_no_position_even_if_answers_still_come():
    tracker = CommitTracker()
    before = tracker.open(A, 10, 1)
    done = tracker.open(B, 10, 1)
    tracker.acknowledge(done, 1)
    tracker.forget(A)
    tracker.forget(B)
    again = tracker.open(A, 7, 1)
    tracker.acknowledge(before, 1)
    assert tracker.take_positions() == {}
    tracker.acknowledge(again, 1)
    assert tracker.take_positions() == {A: 7}


def test_more_answers_than_rows_are_a_mistake_in_this_program():
    tracker = CommitTracker()
    with pytest.raises(AssertionError, match="more answers"):
        tracker.acknowledge(tracker.open(A, 1, 1), 2)


@given(st.data())
def test_positions_are_safe_and_in_the_end_complete(data):
    tracker = CommitTracker()
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    notes, ends, offset = [], {}, 0
    for answers in sizes:
        offset += answers + 1
        ticket = tracker.open(A, offset, answers)
        ends[ticket] = offset
        notes += [ticket] * answers
    missing = {ticket: notes.count(ticket) for ticket in ends}
    position = tracker.take_positions().get(A, 0)
    for ticket in data.draw(st.permutations(notes)):
        tracker.acknowledge(ticket, 1)
        missing[ticket] -= 1
        after = tracker.take_positions().get(A, position)
        assert after >= position
        position = after
        assert all(not missing[ticket] for ticket, end in ends.items() if end <= position)
    assert position == offset
    assert len(tracker) == 0
