"""The breaker by its rules, and under any schedule of calls."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.breaker import (
    TRANSITIONS,
    Breaker,
    BreakerConfig,
    BreakerEvent,
    BreakerState,
    Ticket,
)
from streams.instants import NS_PER_MS, MonotonicNs

CONFIG = BreakerConfig(failures=3, cool_down_ms=10)
START_NS = MonotonicNs(5_000_000_000)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def after_ms(duration_ms: float) -> MonotonicNs:
    return MonotonicNs(START_NS + round(duration_ms * NS_PER_MS))


def call(breaker: Breaker, now_ns: MonotonicNs, *, succeeded: bool) -> None:
    breaker.settle(breaker.admit(now_ns), now_ns, succeeded=succeeded)


def opened() -> Breaker:
    breaker = Breaker(CONFIG)
    for _ in range(3):
        call(breaker, START_NS, succeeded=False)
    assert breaker.state is OPEN
    return breaker


def test_it_opens_with_the_last_of_so_many_failures_in_a_row() -> None:
    breaker = Breaker(CONFIG)
    for succeeded in (False, False, True, False, False):
        call(breaker, START_NS, succeeded=succeeded)
        assert breaker.state is CLOSED
    call(breaker, START_NS, succeeded=False)
    assert breaker.state is OPEN


def test_open_it_admits_nobody_until_the_cool_down_is_over() -> None:
    breaker = opened()
    assert breaker.admit(after_ms(9.999999)) is None
    assert breaker.state is OPEN
    assert breaker.admit(after_ms(10)) is not None
    assert breaker.state is HALF_OPEN


def test_one_probe_at_a_time() -> None:
    breaker = opened()
    assert breaker.admit(after_ms(10)) is not None
    assert breaker.admit(after_ms(10)) is None
    assert breaker.admit(after_ms(19.999999)) is None


def test_a_probe_that_passes_closes_it() -> None:
    breaker = opened()
    call(breaker, after_ms(10), succeeded=True)
    assert breaker.state is CLOSED
    call(breaker, after_ms(10), succeeded=False)
    call(breaker, after_ms(10), succeeded=False)
    assert breaker.state is CLOSED, "failures from before count no more"


def test_a_probe_that_fails_starts_another_cool_down() -> None:
    breaker = opened()
    probe = breaker.admit(after_ms(10))
    breaker.settle(probe, after_ms(12), succeeded=False)
    assert breaker.state is OPEN
    assert breaker.admit(after_ms(21.999999)) is None
    assert breaker.admit(after_ms(22)) is not None


def test_a_probe_that_never_reports_is_replaced_and_not_heard_later() -> None:
    breaker = opened()
    lost = breaker.admit(after_ms(10))
    probe = breaker.admit(after_ms(20))
    assert probe is not None
    assert breaker.admit(after_ms(29.999999)) is None
    breaker.settle(lost, after_ms(20), succeeded=True)
    assert breaker.state is HALF_OPEN
    breaker.settle(probe, after_ms(20), succeeded=True)
    assert breaker.state is CLOSED


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_answer_to_a_call_from_before_it_opened_changes_nothing(*, succeeded: bool) -> None:
    breaker = Breaker(CONFIG)
    tickets = [breaker.admit(START_NS) for _ in range(5)]
    for ticket in tickets[:3]:
        breaker.settle(ticket, START_NS, succeeded=False)
    breaker.settle(tickets[3], START_NS, succeeded=succeeded)
    assert breaker.state is OPEN
    assert breaker.admit(after_ms(10)) is not None
    breaker.settle(tickets[4], after_ms(10), succeeded=succeeded)
    assert breaker.state is HALF_OPEN


def test_a_call_that_was_not_admitted_has_no_outcome() -> None:
    with pytest.raises(AssertionError):
        Breaker(CONFIG).settle(None, START_NS, succeeded=True)


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"cool_down_ms": 0}])
def test_an_impossible_configuration_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        BreakerConfig(**wrong)


def test_the_table_names_every_state_and_leads_from_each_to_each() -> None:
    assert set(TRANSITIONS) == set(BreakerState)
    used = {event for events in TRANSITIONS.values() for event in events}
    assert used == set(BreakerEvent)
    for start in BreakerState:
        reached = {start}
        for _ in BreakerState:
            reached |= {to for state in reached for to in TRANSITIONS[state].values()}
        assert reached == set(BreakerState)


class AnySchedule(RuleBasedStateMachine):
    """Callers come, go and report in any order while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(CONFIG)
        self.now_ns = START_NS
        self.state = CLOSED
        self.moved_ns = START_NS
        self.out: list[Ticket] = []
        self.admitted_while_not_closed_ns: list[int] = []

    @rule(duration_ms=st.integers(0, 15))
    def time_passes(self, duration_ms: int) -> None:
        self.now_ns = MonotonicNs(self.now_ns + duration_ms * NS_PER_MS)

    @rule()
    def somebody_asks(self) -> None:
        before = self.breaker.state
        ticket = self.breaker.admit(self.now_ns)
        waited_ns = self.now_ns - self.moved_ns
        if before is CLOSED:
            assert ticket is not None
        else:
            cooled = waited_ns >= CONFIG.cool_down_ms * NS_PER_MS
            assert (ticket is not None) == cooled
        if ticket is not None:
            self.out.append(ticket)
            if before is not CLOSED:
                self.moved_ns = self.now_ns
                self.admitted_while_not_closed_ns.append(self.now_ns)
        self.note()

    @rule(data=st.data(), succeeded=st.booleans())
    def somebody_reports(self, data: st.DataObject, *, succeeded: bool) -> None:
        if self.out:
            at = data.draw(st.integers(0, len(self.out) - 1))
            self.breaker.settle(self.out.pop(at), self.now_ns, succeeded=succeeded)
        self.note()

    def note(self) -> None:
        if self.breaker.state is not self.state:
            assert self.breaker.state in TRANSITIONS[self.state].values()
            self.state = self.breaker.state
            self.moved_ns = self.now_ns

    @invariant()
    def probes_are_a_cool_down_apart(self) -> None:
        times_ns = self.admitted_while_not_closed_ns
        gaps_ns = [later - earlier for earlier, later in itertools.pairwise(times_ns)]
        assert all(gap_ns >= CONFIG.cool_down_ms * NS_PER_MS for gap_ns in gaps_ns)


TestAnySchedule = AnySchedule.TestCase


@given(
    failures=st.integers(1, 6),
    cool_down_ms=st.integers(1, 5000),
    down_ms=st.integers(0, 20_000),
    every_ms=st.integers(1, 500),
)
def test_it_is_closed_one_cool_down_and_one_call_after_recovery(
    failures: int, cool_down_ms: int, down_ms: int, every_ms: int
) -> None:
    breaker = Breaker(BreakerConfig(failures=failures, cool_down_ms=cool_down_ms))
    now_ms = 0
    while now_ms <= down_ms + cool_down_ms + every_ms:
        ticket = breaker.admit(after_ms(now_ms))
        if ticket is not None:
            breaker.settle(ticket, after_ms(now_ms), succeeded=now_ms >= down_ms)
        now_ms += every_ms
    assert breaker.state is CLOSED
