"""The health of a model: each line of the table, and what no history can do to it."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner.health import HealthConfig, ModelHealth, State, awaited

MS = 1_000_000
SECOND = 1000 * MS
START_NS = 77 * SECOND
CONFIG = HealthConfig(
    window_ns=2 * SECOND,
    degraded_share=0.1,
    failed_share=0.5,
    minimum_events=10,
    recovered_events=20,
)

# As drawn above the code: what may follow a state in one step.
TABLE: dict[State, set[State]] = {
    "HEALTHY": {"HEALTHY", "DEGRADED", "FAILED"},
    "DEGRADED": {"DEGRADED", "HEALTHY", "FAILED"},
    "FAILED": {"FAILED", "PROBING"},
    "PROBING": {"PROBING", "HEALTHY", "FAILED"},
}


@dataclass
class Patient:
    """A model's health with a clock that only moves when told."""

    health: ModelHealth
    now_ns: int = START_NS

    def after(self, ns: int) -> "Patient":
        self.now_ns += ns
        return self

    def sees(self, good: int = 0, bad: int = 0) -> State:
        return self.health.update(good, bad // 2, bad - bad // 2, self.now_ns)


def patient(config: HealthConfig = CONFIG) -> Patient:
    return Patient(ModelHealth(config, START_NS))


def failed() -> Patient:
    ill = patient()
    assert ill.sees(bad=10) == "FAILED"
    return ill.after(MS)


def probing() -> Patient:
    ill = failed()
    assert ill.sees(good=1) == "PROBING"
    return ill.after(MS)


def degraded() -> Patient:
    ill = patient()
    assert ill.sees(good=9, bad=1) == "DEGRADED"
    return ill.after(MS)


# -- the table, line by line -----------------------------------------------------------------


def test_a_new_model_is_healthy_and_waited_for() -> None:
    health = patient().health
    assert health.state == "HEALTHY"
    assert health.is_well
    assert health.bad_share == 0.0
    assert health.since_ns == START_NS


def test_healthy_fails_when_the_bad_share_reaches_the_limit() -> None:
    ill = patient()
    assert ill.sees(good=11, bad=10) != "FAILED"
    assert ill.after(MS).sees(bad=1) == "FAILED"
    assert not ill.health.is_well


def test_healthy_fails_after_a_run_of_bad_verdicts_however_good_it_was() -> None:
    ill = patient()
    ill.sees(good=100_000)
    for _ in range(9):
        assert ill.after(MS).sees(bad=1) == "HEALTHY"
    assert ill.after(MS).sees(bad=1) == "FAILED"


def test_a_good_verdict_ends_a_run() -> None:
    ill = patient()
    ill.sees(good=100_000)
    for _ in range(5):
        assert ill.after(MS).sees(bad=9) == "HEALTHY"
        assert ill.after(MS).sees(good=1) == "HEALTHY"


def test_healthy_degrades_at_its_share_and_is_still_waited_for() -> None:
    ill = patient()
    assert ill.sees(good=91, bad=9) == "HEALTHY"
    assert ill.after(MS).sees(bad=2) == "DEGRADED"
    assert ill.health.is_well
    assert ill.health.since_ns == ill.now_ns


def test_degraded_fails_as_healthy_does() -> None:
    assert degraded().sees(bad=8) == "FAILED"  # share 9/18
    ill = degraded()
    ill.sees(good=1000, bad=99)
    assert ill.after(MS).sees(bad=10) == "FAILED"  # run


def test_degraded_is_healthy_again_below_half_of_its_share() -> None:
    ill = degraded()
    assert ill.sees(good=10) == "DEGRADED", "1/20 is half of the share, not less"
    assert ill.after(MS).sees(good=1) == "HEALTHY"


def test_degraded_becomes_healthy_when_the_bad_verdicts_leave_the_window() -> None:
    ill = degraded()
    assert ill.after(3 * SECOND).sees() == "HEALTHY"


def test_failed_probes_at_the_first_good_verdict_and_is_not_waited_for_yet() -> None:
    ill = failed()
    assert ill.sees(bad=500) == "FAILED"
    assert ill.after(MS).sees(good=1, bad=500) == "PROBING"
    assert not ill.health.is_well


def test_failed_stays_failed_while_nothing_comes() -> None:
    ill = failed()
    since = ill.health.since_ns
    for _ in range(100):
        assert ill.after(SECOND).sees() == "FAILED"
    assert ill.health.since_ns == since


def test_probing_is_healthy_after_enough_good_verdicts() -> None:
    ill = probing()
    for _ in range(18):
        assert ill.after(MS).sees(good=1) == "PROBING"
    assert ill.after(MS).sees(good=1) == "HEALTHY"
    assert ill.health.is_well


def test_good_verdicts_that_come_all_at_once_count_but_for_the_last_step() -> None:
    ill = failed()
    assert ill.sees(good=500, bad=500) == "PROBING"
    assert ill.health.bad_share == 0.0
    assert ill.sees() == "PROBING", "what came at once may be over by now"
    assert ill.sees(good=1) == "HEALTHY"


def test_probing_does_not_end_while_too_many_are_bad() -> None:
    ill = probing()
    assert ill.sees(good=35, bad=4) == "PROBING"  # 4/40 is the degraded share
    assert ill.after(MS).sees(good=1) == "HEALTHY"


def test_probing_fails_as_healthy_does() -> None:
    assert probing().sees(bad=10) == "FAILED"
    assert probing().sees(good=6, bad=7) == "FAILED"


def test_what_was_before_the_failure_does_not_count_in_probing() -> None:
    ill = patient()
    ill.sees(good=1, bad=1000)
    assert ill.health.state == "FAILED"
    ill.after(MS).sees(good=1)
    assert ill.health.bad_share == 0.0
    assert ill.after(MS).sees(good=20) == "HEALTHY"


# -- evidence --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", range(1, 10))
def test_too_little_evidence_changes_nothing(bad: int) -> None:
    ill = patient()
    assert ill.sees(good=9 - bad, bad=bad) == "HEALTHY"


def test_refusals_count_like_silence() -> None:
    for refused, missed in ((10, 0), (0, 10), (4, 6)):
        assert patient().health.update(0, refused, missed, START_NS) == "FAILED"


def test_old_verdicts_leave_the_window() -> None:
    ill = patient()
    ill.sees(good=8, bad=1)
    ill.after(2 * SECOND + 1).sees(good=10)
    assert ill.health.bad_share == 0.0
    assert ill.health.state == "HEALTHY"


def test_at_one_event_a_minute_a_silent_model_fails_by_the_run() -> None:
    ill = patient()
    states = [ill.after(60 * SECOND).sees(bad=1) for _ in range(10)]
    assert states == ["HEALTHY"] * 9 + ["FAILED"]


def test_at_one_event_a_minute_now_and_then_a_miss_is_no_failure() -> None:
    ill = patient()
    for _ in range(50):
        assert ill.after(60 * SECOND).sees(bad=1) == "HEALTHY"
        assert ill.after(60 * SECOND).sees(good=1) == "HEALTHY"


def test_at_one_event_a_minute_a_model_recovers_with_its_second_answer() -> None:
    ill = failed()
    assert ill.after(60 * SECOND).sees(good=1) == "PROBING"
    assert ill.after(60 * SECOND).sees(good=1) == "HEALTHY"


def test_a_window_of_good_verdicts_is_enough_and_a_shorter_time_is_not() -> None:
    ill = probing()
    since = ill.health.since_ns
    ill.now_ns = since + CONFIG.window_ns - 1
    assert ill.sees(good=1) == "PROBING"
    assert ill.after(1).sees() == "PROBING", "silence is no evidence"
    assert ill.sees(good=1) == "HEALTHY"


def test_one_bad_verdict_while_probing_asks_for_the_whole_number_of_good_ones() -> None:
    ill = probing()
    assert ill.sees(good=1, bad=1) == "PROBING"
    for _ in range(CONFIG.recovered_events - 3):
        assert ill.after(60 * SECOND).sees(good=1) == "PROBING"
    assert ill.after(60 * SECOND).sees(good=1) == "HEALTHY"


# -- who is waited for -----------------------------------------------------------------------


def wanted(*healths: ModelHealth, reserves: int = 0) -> list[bool]:
    """Of some members, the last of which are reserves."""
    is_reserve = np.arange(len(healths)) >= len(healths) - reserves
    return awaited(healths, is_reserve).tolist()


def test_who_is_well_is_waited_for_and_nobody_else() -> None:
    well, poorly, ill, back = patient(), degraded(), failed(), probing()
    found = wanted(well.health, poorly.health, ill.health, back.health)
    assert found == [True, True, False, False]


def test_where_nobody_is_well_who_may_be_back_is_waited_for() -> None:
    assert wanted(failed().health, probing().health) == [False, True]
    assert wanted(failed().health, failed().health) == [False, False]


def test_a_reserve_is_never_waited_for_and_keeps_nobody_from_it() -> None:
    found = wanted(probing().health, patient().health, probing().health, reserves=2)
    assert found == [True, False, False]


# -- hysteresis ------------------------------------------------------------------------------


def test_a_share_between_the_two_limits_keeps_whatever_state_it_finds() -> None:
    ill, well = degraded(), patient()
    for _ in range(50):
        assert ill.after(100 * MS).sees(good=93, bad=7) == "DEGRADED"
        assert well.after(100 * MS).sees(good=93, bad=7) == "HEALTHY"


def test_a_model_that_comes_and_goes_is_waited_for_only_after_a_good_stretch() -> None:
    """Half a second up, half a second down: each return must be earned afresh."""
    ill = patient()
    changes = 0
    for _ in range(20):
        for _ in range(10):
            before = ill.health.is_well
            ill.after(50 * MS).sees(bad=5)
            changes += before != ill.health.is_well
        assert not ill.health.is_well
        for _ in range(10):
            before = ill.health.is_well
            ill.after(50 * MS).sees(good=1)
            changes += before != ill.health.is_well
    assert changes == 1, "ten good verdicts a stretch are fewer than twenty"


# -- any history -----------------------------------------------------------------------------

verdicts = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3, 12, 40]),
        st.sampled_from([0, 0, 1, 3, 12]),
        st.sampled_from([0, 0, 1, 9, 10]),
        st.sampled_from([0, 1, 10 * MS, 250 * MS, SECOND, 2 * SECOND, 2 * SECOND + 1]),
    ),
    max_size=40,
)
configs = st.builds(
    lambda shares, minimum, recovered, window: HealthConfig(
        window, min(shares), max(shares), minimum, recovered
    ),
    st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([1, 7, SECOND, 2 * SECOND]),
)


@settings(max_examples=300, derandomize=True)
@given(configs, verdicts)
def test_the_state_never_leaves_the_table(
    config: HealthConfig, history: list[tuple[int, int, int, int]]
) -> None:
    health, now_ns, since_ns = ModelHealth(config, START_NS), START_NS, START_NS
    for answered, refused, missed, passed_ns in history:
        now_ns += passed_ns
        before = health.state
        after = health.update(answered, refused, missed, now_ns)
        assert after == health.state
        assert after in TABLE[before]
        assert health.is_well == (after in {"HEALTHY", "DEGRADED"})
        if before == "FAILED":
            assert (after == "PROBING") == (answered > 0)
        since_ns = now_ns if after != before else since_ns
        assert health.since_ns == since_ns
        assert 0.0 <= health.bad_share <= 1.0


@settings(max_examples=300, derandomize=True)
@given(verdicts)
def test_the_window_holds_what_is_young_and_nothing_that_is_old(
    history: list[tuple[int, int, int, int]],
) -> None:
    """A verdict leaves at the latest when it is a window old, and at most one step sooner."""
    # Never fails, so that nothing but age takes a verdict out.
    config = HealthConfig(2 * SECOND, 1.0, 1.0, 10**9, 1)
    health, now_ns = ModelHealth(config, START_NS), START_NS
    seen: list[tuple[int, int, int]] = []
    for answered, refused, missed, passed_ns in history:
        now_ns += passed_ns
        health.update(answered, refused, missed, now_ns)
        seen.append((now_ns, answered, refused + missed))
        for held, column in ((health._good, 1), (health._bad, 2)):
            young = config.window_ns - config.window_ns // 8
            least = sum(verdict[column] for verdict in seen if now_ns - verdict[0] <= young)
            most = sum(
                verdict[column] for verdict in seen if now_ns - verdict[0] <= config.window_ns
            )
            assert least <= held <= most


def test_memory_is_bounded_by_the_steps_of_the_window() -> None:
    ill = patient()
    for _ in range(10_000):
        ill.after(MS).sees(good=1)
        assert len(ill.health._steps) <= 10


@pytest.mark.parametrize(
    "wrong",
    [(0, 0.1, 0.5, 1, 1), (1, 0.0, 0.5, 1, 1), (1, 0.6, 0.5, 1, 1), (1, 0.1, 1.1, 1, 1),
     (1, 0.1, 0.5, 0, 1), (1, 0.1, 0.5, 1, 0)],
)  # fmt: skip
def test_impossible_limits_are_refused(wrong: tuple[int, float, float, int, int]) -> None:
    with pytest.raises(AssertionError):
        HealthConfig(*wrong)
