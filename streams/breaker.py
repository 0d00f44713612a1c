"""When to stop asking something that does not answer.

Think of a shop with a broken door. After a few pulls in vain you stop pulling, walk by for a
while, and then try the handle once: it opens and the shop is a shop again, or you walk on for
the same while. What is saved is not the pull but the time in front of the door.

Rules of this file:

1. The time is always an argument; nothing here reads a clock, waits or logs.
2. `TRANSITIONS` is the whole truth about the states. An event that a state does not list changes
   nothing there; in particular answers to calls made before a transition (`epoch`) are not heard,
   so a reply that was on its way while the door closed cannot open it.

Not in the table: in CLOSED, failures are counted, and only the last of `failures` in a row is
the event TRIPPED. A single success sets the count to zero. Counting a share of failures within a
window would be cleverer and no better: a store that is down fails every call, and one that fails
every third call still saves two thirds of the work.

One probe is let through at a time. A probe whose caller never reports (its thread died) must not
block the way forever: after another cool-down it is OVERDUE and the next caller probes.
"""

import enum
from dataclasses import dataclass

from streams.instants import NS_PER_MS, MonotonicNs


class BreakerState(enum.Enum):
    """Whether calls pass."""

    CLOSED = "closed"  # all calls pass
    OPEN = "open"  # no call passes
    HALF_OPEN = "half_open"  # one call is out to probe


class BreakerEvent(enum.Enum):
    """What moves the state."""

    TRIPPED = "tripped"  # as many failures in a row as are allowed
    COOLED = "cooled"  # a call was asked for after the cool-down
    PASSED = "passed"  # the probe succeeded
    REFUSED = "refused"  # the probe failed
    OVERDUE = "overdue"  # the probe has not reported within a cool-down


TRANSITIONS: dict[BreakerState, dict[BreakerEvent, BreakerState]] = {
    BreakerState.CLOSED: {BreakerEvent.TRIPPED: BreakerState.OPEN},
    BreakerState.OPEN: {BreakerEvent.COOLED: BreakerState.HALF_OPEN},
    BreakerState.HALF_OPEN: {
        BreakerEvent.PASSED: BreakerState.CLOSED,
        BreakerEvent.REFUSED: BreakerState.OPEN,
        BreakerEvent.OVERDUE: BreakerState.HALF_OPEN,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """How patient a breaker is.

    Attributes:
        failures: so many in a row open it, at least 1. Three, because one may be a hiccup.
        cool_down_ms: the pause before a probe, at least 1. One second: the probe's timeout is
            then a few percent of the time at worst, and a recovery is noticed well within 5 s.
    """

    failures: int = 3
    cool_down_ms: int = 1000

    def __post_init__(self) -> None:
        assert self.failures >= 1, self.failures
        assert self.cool_down_ms >= 1, self.cool_down_ms


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call; `epoch` says between which two transitions it was given."""

    epoch: int


class Breaker:
    """The state of one breaker. Not thread-safe: whoever shares it holds a lock.

    Ask `admit` before each call and report its outcome with `settle`.

    >>> breaker = Breaker(BreakerConfig(failures=1, cool_down_ms=1))
    >>> breaker.settle(breaker.admit(MonotonicNs(0)), MonotonicNs(0), succeeded=False)
    >>> breaker.state, breaker.admit(MonotonicNs(999_999))
    (<BreakerState.OPEN: 'open'>, None)
    >>> probe = breaker.admit(MonotonicNs(1_000_000))
    >>> breaker.settle(probe, MonotonicNs(1_200_000), succeeded=True)
    >>> breaker.state
    <BreakerState.CLOSED: 'closed'>
    """

    def __init__(self, config: BreakerConfig) -> None:
        self._failures = config.failures
        self._cool_down_ns = config.cool_down_ms * NS_PER_MS
        self._state = BreakerState.CLOSED
        self._epoch = 0
        self._failed_in_a_row = 0
        self._moved_ns = MonotonicNs(0)

    @property
    def state(self) -> BreakerState:
        """Where it is; OPEN also after the cool-down, until somebody asks."""
        return self._state

    def admit(self, now_ns: MonotonicNs) -> Ticket | None:
        """Leave to call, to be settled; None means: do not call, and report nothing."""
        if self._state is not BreakerState.CLOSED:
            if now_ns - self._moved_ns < self._cool_down_ns:
                return None
            opened = self._state is BreakerState.OPEN
            self._move(BreakerEvent.COOLED if opened else BreakerEvent.OVERDUE, now_ns)
        return Ticket(self._epoch)

    def settle(self, ticket: Ticket | None, now_ns: MonotonicNs, *, succeeded: bool) -> None:
        """Report the outcome of the call made with `ticket`."""
        assert ticket is not None, "a call that was not admitted has no outcome"
        if ticket.epoch != self._epoch:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._move(BreakerEvent.PASSED if succeeded else BreakerEvent.REFUSED, now_ns)
            return
        self._failed_in_a_row = 0 if succeeded else self._failed_in_a_row + 1
        if self._failed_in_a_row == self._failures:
            self._move(BreakerEvent.TRIPPED, now_ns)

    def _move(self, event: BreakerEvent, now_ns: MonotonicNs) -> None:
        self._state = TRANSITIONS[self._state][event]
        self._epoch += 1
        self._failed_in_a_row = 0
        self._moved_ns = now_ns
