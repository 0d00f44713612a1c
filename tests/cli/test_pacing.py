"""A steady rate."""

from hypothesis import given
from hypothesis import strategies as st

from cli.pacing import NS_PER_S, Pace


def test_the_first_event_is_due_at_once() -> None:
    assert Pace(1, start_ns=5).due(5) == 1


def test_a_slow_rate_waits_for_its_next_event() -> None:
    pace = Pace(0.5, start_ns=0)
    assert pace.due(0) == 1
    assert pace.wait_ns(NS_PER_S) == NS_PER_S
    assert pace.due(2 * NS_PER_S - 1) == 0
    assert pace.due(2 * NS_PER_S) == 1


def test_what_a_long_pause_missed_is_not_made_up_for() -> None:
    pace = Pace(1000, start_ns=0)
    pace.due(0)
    assert pace.due(60 * NS_PER_S) <= 101
    assert pace.due(60 * NS_PER_S) == 0


@given(
    st.floats(1, 100_000),
    st.lists(st.integers(1, NS_PER_S // 20), min_size=1, max_size=200),
)
def test_the_count_is_right_to_one_event_at_any_time(rate: float, steps_ns: list[int]) -> None:
    pace, now_ns, given_ = Pace(rate, start_ns=0), 0, 0
    for step_ns in steps_ns:
        now_ns += step_ns
        given_ += pace.due(now_ns)
        assert abs(given_ - (now_ns * rate / NS_PER_S + 1)) <= 1.01
        assert pace.wait_ns(now_ns) <= NS_PER_S / rate + 1
