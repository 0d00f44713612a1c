"""Bad events in the load: each one dead letter, and the good ones do not notice."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chaos.goals.goal import Result, goal
from chaos.load import Event, MakeEvent, good_event
from chaos.plan import Plan
from chaos.reader import TIMEOUT_S
from chaos.stage import Stage
from chaos.verdict import DEAD, latencies_ms

GOOD_PER_S = 2000
PHASE_S = 6.0
WARM_UP_S = 5.0
# One in so many events is bad.
ONE_IN = 10
# What the two may differ by, either way.
ALLOWED = 0.10

KINDS: tuple[bytes | None, ...] = (
    None,
    b"",
    b"\xff\xfe rubbish",
    b'{"id": "p", "x": 1',
    b"[1, 2]",
    b'{"id": "p"}',
    b'{"id": "p", "x": "1"}',
    b'{"id": "p", "x": NaN}',
    b'{"id": "p", "x": Infinity}',
    b'{"id": "p", "x": 1e400}',
    b'{"id": "p", "x": 1%s}' % (b"0" * 400),
    b'{"id": "p", "x": 1, "y": %s' % (b"[" * 10_000),
    b'{"id": "p", "x": 1, "y": "%s' % (b"y" * 50_000),
    b'\x00\x00\x00\x00\x2a{"id": "p", "x": 1}',
    b'{"x": 1}',
)


def one_in_ten_bad(number: int) -> Event:
    """A good event, or each tenth time the next kind of bad one.

    >>> one_in_ten_bad(9)[0] is None, one_in_ten_bad(10) == good_event(10)
    (True, True)
    """
    turn, place = divmod(number, ONE_IN)
    if place != ONE_IN - 1:
        return good_event(number)
    return KINDS[turn % len(KINDS)], b"customer-%d" % (number % 1000), 0


@dataclass(slots=True)
class Phases:
    """When events of one kind of load were sent, as spans of the monotonic clock."""

    spans_ns: list[tuple[int, int]] = field(default_factory=list)

    def sent(self, stage: Stage) -> dict[str, int]:
        """Events of these phases, and when each was sent."""
        return {
            source: at
            for source, at in stage.acknowledged.sent_ns.items()
            if any(start <= at < stop for start, stop in self.spans_ns)
        }

    def good_ms(self, stage: Stage) -> NDArray[np.float64]:
        """Latencies of the good ones."""
        scored = [outcome for outcome in stage.reader.outcomes if outcome.rung != DEAD]
        return latencies_ms(self.sent(stage), scored)


@goal(
    "13",
    "one event in ten is bad, of 15 kinds, in turns with as many good events without bad ones",
    "each bad one a dead letter exactly once; p99 of the good ones within ±10 %",
    count=5,
)
def poison(count: int) -> Result:
    """So many turns of both."""
    clean, poisoned = Phases(), Phases()
    with Stage(Plan()) as stage:
        stage.await_ready()
        _send(stage, Phases(), GOOD_PER_S, good_event, WARM_UP_S)
        for _ in range(count):
            _send(stage, clean, GOOD_PER_S, good_event, PHASE_S)
            _send(stage, poisoned, GOOD_PER_S * ONE_IN / (ONE_IN - 1), one_in_ten_bad, PHASE_S)
        report = stage.report()
        alone, beside = clean.good_ms(stage), poisoned.good_ms(stage)
        bad = len(poisoned.sent(stage)) - len(beside)
    p99_alone, p99_beside = (float(np.percentile(found, 99)) for found in (alone, beside))
    change = p99_beside / p99_alone - 1.0
    return Result.of(
        report,
        abs(change) <= ALLOWED and report.dead == bad > 0,
        bad_events=bad,
        dead_letters=report.dead,
        p99_without_ms=p99_alone,
        p99_with_ms=p99_beside,
        p99_change=change,
        p50_without_ms=float(np.median(alone)),
        p50_with_ms=float(np.median(beside)),
    )


def _send(stage: Stage, phases: Phases, rate_per_s: float, make: MakeEvent, seconds: float) -> None:
    start_ns = time.monotonic_ns()
    with stage.load(rate_per_s, make):
        stage.rest(seconds)
    phases.spans_ns.append((start_ns, time.monotonic_ns()))
    stage.await_outcomes(TIMEOUT_S)
