"""What is paused, and when it goes on."""

from hypothesis import given
from hypothesis import strategies as st

from combiner.throttle import Throttle

A, B = ("events", 0), ("events", 1)


def test_from_the_limit_on_it_is_paused_and_below_half_of_it_it_goes_on() -> None:
    throttle = Throttle(10)
    assert throttle.judge({A: 9, B: 10}) == ([B], [])
    assert throttle.judge({A: 9, B: 10}) == ([], []), "told once"
    assert throttle.judge({A: 9, B: 5}) == ([], [])
    assert throttle.judge({A: 10, B: 4}) == ([A], [B])
    assert throttle.paused == {A}


def test_while_nothing_leaves_all_are_paused() -> None:
    throttle = Throttle(10)
    assert throttle.judge({A: 0, B: 10}, blocked=True) == ([A, B], [])
    assert throttle.judge({A: 0, B: 0}, blocked=True) == ([], [])
    assert throttle.judge({A: 0, B: 0}) == ([], [A, B])


def test_who_comes_is_not_paused_and_who_stays_is() -> None:
    throttle = Throttle(1)
    throttle.judge({A: 1, B: 1})
    throttle.forget([B])
    assert throttle.paused == {A}
    assert throttle.judge({A: 0, B: 0}) == ([], [A])


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=30),
)
def test_nobody_is_told_twice_and_whoever_is_empty_goes_on(limit: int, turns) -> None:
    throttle, paused = Throttle(limit), set()
    for a, b, blocked in turns:
        held = {A: a, B: b}
        stop, go = throttle.judge(held, blocked=blocked)
        assert not set(stop) & paused
        assert set(go) <= paused
        paused = (paused | set(stop)) - set(go)
        assert paused == throttle.paused
        assert all(place in paused for place in held if blocked or held[place] >= limit)
    assert throttle.judge({A: 0, B: 0}) == ([], [place for place in (A, B) if place in paused])
