"""Who ended the process: judged from what was under way, one life after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from workers.batching import Mailbox, MicroBatch, RecordBatch
from workers.suspicion import (
    HEALED_ANSWERS,
    MAX_CONVICTS,
    MAX_STRIKES,
    Call,
    Life,
    Past,
    Span,
    culprits,
    judged,
    one_event,
    released,
    row_hashes,
    says_something,
    spans_of,
    suspected,
)

BATCH = Span("events", 0, 10, 19)


def scoring(model: str, *spans: Span, answers: int = 0) -> Life:
    return Life(answers, -1, Call(model, "scoring", spans or (BATCH,)))


def trial(model: str, row: int = 7) -> Life:
    return Life(0, -1, Call(model, "trial", (Span("events", 0, 10, 10),), row))


def loading(model: str) -> Life:
    return Life(0, -1, Call(model, "loading"))


def after(*lives: dict[str, Life], names: str = "ab") -> dict[str, Past]:
    pasts = {name: Past("same") for name in names}
    for life in lives:
        pasts = judged(pasts, life)
    return pasts


class TestBlame:
    def test_who_was_alone_in_a_call_is_blamed(self) -> None:
        past = after({"a": scoring("a"), "b": Life(5)})
        assert past["a"] == Past("same", deaths=1, strikes=1, suspects=(BATCH,))
        assert past["b"] == Past("same")

    def test_of_two_none_is_blamed_and_both_are_suspected(self) -> None:
        past = after({"a": scoring("a"), "b": scoring("b")})
        assert past["a"] == past["b"] == Past("same", suspects=(BATCH,))

    def test_a_row_on_trial_is_guilty_whatever_else_was_under_way(self) -> None:
        past = after({"a": scoring("a")}, {"a": trial("a", 42), "b": scoring("b")})
        assert past["a"].convicts == (42,)
        assert past["a"].suspects == (BATCH,), "the rows behind it are still to be tried"
        assert past["b"] == Past("same")

    def test_loading_is_guilty_without_any_row(self) -> None:
        assert after({"a": loading("a")})["a"] == Past("same", deaths=1, strikes=1)

    def test_an_end_without_calls_changes_nothing(self) -> None:
        assert after({}, {"a": Life(3, -1), "b": Life()}) == after()

    @pytest.mark.parametrize("exit_code", [-9, -15, -2, -1, -3])
    def test_signals_from_outside_say_nothing(self, exit_code: int) -> None:
        assert not says_something(exit_code)

    @pytest.mark.parametrize("exit_code", [None, -11, -6, -7, -8, -4, 0, 1, 5, 75, 134, 255])
    def test_other_ends_do(self, exit_code: int | None) -> None:
        assert says_something(exit_code)


class TestQuarantine:
    def test_a_model_that_crashes_again_and_again_is_left_out(self) -> None:
        lives = [{"a": loading("a")}] * MAX_STRIKES
        assert not after(*lives[1:])["a"].quarantined
        assert after(*lives)["a"].quarantined

    def test_one_that_answers_in_between_is_not(self) -> None:
        well = {"a": scoring("a", answers=HEALED_ANSWERS)}
        assert after(*[well] * 50)["a"] == Past("same", deaths=50, strikes=1, suspects=(BATCH,))

    def test_good_answers_count_however_the_process_ended(self) -> None:
        lives = [{"a": loading("a")}] * (MAX_STRIKES - 1)
        assert after(*lives, {"a": Life(HEALED_ANSWERS)})["a"].strikes == 0

    def test_a_poisoned_event_alone_never_suffices(self) -> None:
        once = after({"a": scoring("a")}, {"a": trial("a")})["a"]
        assert (once.strikes, once.quarantined) == (2, False)

    def test_another_attempt_begins_anew_but_for_the_convicts(self) -> None:
        past = after(*[{"a": trial("a", row)} for row in range(MAX_STRIKES)])["a"]
        assert past.quarantined
        again = released(past, 17)
        assert again == Past("same", deaths=MAX_STRIKES, convicts=past.convicts, heard=17)

    def test_what_was_heard_is_remembered(self) -> None:
        past = after({"a": Life(0, 5)}, {"a": Life(0, 3)}, {"a": Life()})
        assert past["a"].heard == 5

    def test_convicts_are_bounded(self) -> None:
        past = Past("same", convicts=tuple(range(MAX_CONVICTS)))
        assert judged({"a": past}, {"a": trial("a", -1)})["a"].convicts[-2:] == (
            MAX_CONVICTS - 1,
            -1,
        )
        assert len(judged({"a": past}, {"a": trial("a", -1)})["a"].convicts) == MAX_CONVICTS


@given(
    rows=st.integers(1, 60),
    poison=st.sets(st.integers(0, 59)),
    crashed_too=st.booleans(),
    batch_rows=st.integers(1, 20),
)
def test_every_poisoned_row_is_found_and_no_other(
    rows: int, poison: set[int], crashed_too: bool, batch_rows: int
) -> None:
    """A process that reads from the first unanswered row again after each death, as a play."""
    poison = {row for row in poison if row < rows}
    pasts, answered = {"a": Past("same"), "b": Past("same")}, set[int]()
    deaths = 0
    while len(answered) < rows:
        past = pasts["a"]
        assert not past.quarantined or deaths >= MAX_STRIKES
        pasts["a"] = released(past, 0) if past.quarantined else past
        died = None
        for row in range(min(set(range(rows)) - answered), rows):
            inside = any(span.first <= row <= span.last for span in past.suspects)
            if row in past.convicts:
                answered.add(row)
                continue
            if inside and row in poison:
                died = Call("a", "trial", (Span("t", 0, row, row),), row)
            elif not inside:
                last = min(row + batch_rows, rows) - 1
                if any(other in poison for other in range(row, last + 1)):
                    died = Call("a", "scoring", (Span("t", 0, row, last),))
            if died is not None:
                break
            answered.add(row)
        if died is not None:
            deaths += 1
            other = scoring("b") if crashed_too and died.stage == "scoring" else Life()
            pasts = judged(pasts, {"a": Life(0, 0, died), "b": other})
    assert set(pasts["a"].convicts) == poison
    assert deaths <= 2 * len(poison)
    assert pasts["b"].convicts == ()


# -- rows ------------------------------------------------------------------------------------------


def micro(*places: tuple[int, int, int]) -> MicroBatch:
    """A micro-batch of (partition, first offset, rows) in turn."""
    mailbox = Mailbox()
    for partition, first, rows in places:
        offsets = np.arange(first, first + rows)
        mailbox.put(RecordBatch("t", partition, offsets, np.zeros((rows, 2)), 0, 0))
    return mailbox.take(10_000)


def test_suspects_are_found_in_whatever_batch_they_come_again() -> None:
    batch = micro((0, 10, 5), (1, 10, 5), (0, 15, 5))
    assert spans_of(batch) == (Span("t", 0, 10, 19), Span("t", 1, 10, 14))
    found = suspected((Span("t", 0, 13, 15), Span("t", 1, 14, 99), Span("u", 0, 0, 99)), batch)
    assert np.flatnonzero(found).tolist() == [3, 4, 9, 10]
    assert one_event(batch, 9) == Span("t", 1, 14, 14)
    assert str(one_event(batch, 10)) == "t/0/15-15"


matrices = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, 4.0, 1024.0, 0.5, np.nan, np.inf, 1e-300]),
)


@given(matrices)
def test_rows_have_one_hash_exactly_if_they_have_the_same_bits(matrix: np.ndarray) -> None:
    hashes = row_hashes(matrix)
    for i, row in enumerate(matrix):
        same = [row.tobytes() == other.tobytes() for other in matrix]
        assert (hashes == hashes[i]).tolist() == same
    assert row_hashes(matrix[:1])[0] == hashes[0], "whatever it stands beside"


def test_a_million_similar_rows_have_a_million_hashes() -> None:
    grid = np.array(np.meshgrid(*[np.arange(100.0)] * 3)).reshape(3, -1).T
    assert len(np.unique(row_hashes(np.ascontiguousarray(grid)))) == 1_000_000


def test_calls_say_what_they_were() -> None:
    assert str(loading("a").call) == "a was being loaded"
    assert str(scoring("a").call) == "a was scoring events/0/10-19"
    assert culprits({"a": Call("a", "scoring"), "b": Call("b", "trial")}) == ["b"]
