"""When a process that ended is started again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.restarts import (
    FROM_OUTSIDE,
    NS_PER_S,
    GiveUp,
    History,
    Restart,
    RestartPolicy,
    delay_ns,
    judge,
    reason_of,
)
from streams import errors

POLICY = RestartPolicy()
CRASH, BROKER_AWAY, MISCONFIGURED = 1, errors.BrokerError.exit_code, 2


def ends(*lives: tuple[int, float], policy: RestartPolicy = POLICY) -> list[Restart | GiveUp]:
    """Decisions about a child that ends again and again: (exit code, seconds it lived)."""
    history, now_ns, decisions = History(), 0, list[Restart | GiveUp]()
    for exit_code, lived_s in lives:
        started_ns = now_ns
        now_ns += int(lived_s * NS_PER_S)
        history, decision = judge(policy, history, exit_code, started_ns, now_ns)
        decisions.append(decision)
        if isinstance(decision, Restart):
            now_ns = decision.at_ns
    return decisions


def delays_s(*lives: tuple[int, float]) -> list[float]:
    found, now_ns = [], 0
    for (_, lived_s), decision in zip(lives, ends(*lives), strict=True):
        assert isinstance(decision, Restart)
        now_ns += int(lived_s * NS_PER_S)
        found.append((decision.at_ns - now_ns) / NS_PER_S)
        now_ns = decision.at_ns
    return found


def test_the_delay_doubles_up_to_the_longest() -> None:
    assert delays_s(*[(BROKER_AWAY, 0)] * 8) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10]


def test_a_healthy_life_begins_a_new_count() -> None:
    assert delays_s((CRASH, 0), (CRASH, 0), (CRASH, 30), (CRASH, 0)) == [0.1, 0.2, 0.1, 0.2]


def test_one_that_crashes_at_once_is_quarantined() -> None:
    *before, last = ends(*[(CRASH, 0)] * POLICY.crashes)
    assert all(isinstance(decision, Restart) for decision in before)
    assert last == GiveUp("quarantined")


def test_a_signal_counts_as_a_crash() -> None:
    assert ends(*[(-11, 0)] * POLICY.crashes)[-1] == GiveUp("quarantined")


def test_what_somebody_else_kills_is_started_for_ever() -> None:
    assert delays_s(*[(-9, 0)] * 100)[-1] == 10
    assert delays_s(*[(-9, 1)] * 100)[-1] == 0.1


def test_an_end_without_an_error_counts_as_a_crash_too() -> None:
    assert ends(*[(0, 0)] * POLICY.crashes)[-1] == GiveUp("quarantined")


@pytest.mark.parametrize("exit_code", [0, -15, -9])
def test_who_is_ended_from_outside_again_and_again_is_started_at_once(exit_code: int) -> None:
    """As a person who tries it out does, or a rolling restart."""
    assert delays_s(*[(exit_code, 1.5)] * 50) == [0.1] * 50


def test_one_that_lives_a_while_between_crashes_is_never_quarantined() -> None:
    assert all(isinstance(decision, Restart) for decision in ends(*[(CRASH, 5)] * 100))
    assert delays_s(*[(CRASH, 5)] * 3) == [0.1, 0.1, 0.1]


def test_a_broker_that_is_away_is_waited_for_without_end() -> None:
    assert all(isinstance(decision, Restart) for decision in ends(*[(BROKER_AWAY, 0)] * 100))


def test_a_wrong_configuration_is_not_tried_again() -> None:
    assert ends((MISCONFIGURED, 0)) == [GiveUp("failed")]


def test_an_end_that_the_next_process_deals_with_is_not_counted_but_waited_after() -> None:
    history, now_ns = History(), 0
    for number in range(100):
        history, decision = judge(POLICY, history, -11, now_ns, now_ns, excused=True)
        assert decision == Restart(now_ns + delay_ns(POLICY, number + 1))
        now_ns = decision.at_ns
    assert history.crashed_at_ns == ()


def test_a_fresh_start_is_given_for_ever() -> None:
    recycled = errors.RecycleError.exit_code
    assert all(isinstance(decision, Restart) for decision in ends(*[(recycled, 0)] * 100))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (errors.ConfigurationError, "user"),
        (errors.BundleError, "user"),
        (errors.DataError, "user"),
        (errors.ModelError, "user"),
        (errors.BrokerError, "surroundings"),
        (errors.FencedError, "surroundings"),
        (errors.CacheError, "surroundings"),
        (errors.RecycleError, "surroundings"),
    ],
)
def test_the_reason_follows_the_tree_of_errors(
    kind: type[errors.EnsembleError], reason: str
) -> None:
    assert reason_of(kind.exit_code) == reason


@pytest.mark.parametrize("exit_code", [0, 1, -6, -11, 70, 137])
def test_any_other_end_is_the_childs_own_fault(exit_code: int) -> None:
    assert reason_of(exit_code) == "itself"


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_delays_never_shrink_and_stay_within_bounds(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert POLICY.first_delay_ns <= delay_ns(POLICY, low) <= delay_ns(POLICY, high)
    assert delay_ns(POLICY, high) <= POLICY.longest_delay_ns


exits = st.tuples(
    st.sampled_from([CRASH, BROKER_AWAY, -9, -11, 0]),
    st.floats(0, 120, allow_nan=False),
)


@given(st.lists(exits, max_size=60))
def test_never_more_crashes_within_a_window_than_allowed(lives: list[tuple[int, float]]) -> None:
    crashed_at_ns: list[int] = []
    history, now_ns = History(), 0
    for exit_code, lived_s in lives:
        started_ns, now_ns = now_ns, now_ns + int(lived_s * NS_PER_S)
        history, decision = judge(POLICY, history, exit_code, started_ns, now_ns)
        outside = exit_code in FROM_OUTSIDE
        if lived_s * NS_PER_S >= (POLICY.working_ns if outside else POLICY.healthy_ns):
            crashed_at_ns.clear()
        elif reason_of(exit_code) == "itself":
            crashed_at_ns.append(now_ns)
        recent = [at for at in crashed_at_ns if now_ns - at < POLICY.window_ns]
        if isinstance(decision, GiveUp):
            assert len(recent) >= POLICY.crashes
            return
        assert len(recent) < POLICY.crashes
        assert decision.at_ns > now_ns
        assert len(history.crashed_at_ns) <= POLICY.crashes
        now_ns = decision.at_ns
