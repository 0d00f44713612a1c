"""Groups that change: members that come and go every second, and all that start at once."""

import signal
import subprocess
import time
from collections import deque
from contextlib import ExitStack

from chaos.goals.goal import Result, goal
from chaos.goals.kills import RATE_PER_S, SETTLED_MS, times
from chaos.load import ticks
from chaos.plan import Plan
from chaos.reader import wait_for
from chaos.stage import Stage

# How long a member that left for good keeps its partitions; the least that brokers allow here.
SHORT_SESSION_MS = 1500
FIRST_FINAL_S = 3.0


@goal(
    "8",
    "one combiner more joins, and one leaves, every second",
    "for 120 s; 0 lost, 0 duplicates; at least 80 % of the steady throughput",
    count=120,
)
def rebalance_storm(count: int) -> Result:
    """Two combiners stay; up to two more, each with a slot of its own, live two seconds."""
    tables = {"kafka": {"consumer": {"session.timeout.ms": SHORT_SESSION_MS}}}
    with Stage(Plan(combiners=2, tables=tables)) as stage, ExitStack() as guests:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            before, began_s = len(stage.reader.outcomes), time.monotonic()
            here: deque[subprocess.Popen[bytes]] = deque()
            for second in ticks(1.0, float(count)):
                # A name that was fenced a moment ago is not used again at once.
                guest = stage.beside("combiner-0", slot=f"guest-{second % 6}")
                here.append(guests.enter_context(guest))
                if len(here) > 2:
                    here.popleft().send_signal(signal.SIGTERM)
            took_s = time.monotonic() - began_s
            throughput = (len(stage.reader.outcomes) - before) / took_s
            for each in here:
                each.terminate()
            stage.await_flow(SETTLED_MS)
        report = stage.report()
    return Result.of(
        report,
        throughput >= 0.8 * RATE_PER_S,
        f"session.timeout.ms = {SHORT_SESSION_MS}: a member that leaves keeps its partitions so "
        "long",
        throughput_share=throughput / RATE_PER_S,
        **times(report),
    )


@goal(
    "9",
    "every worker and combiner stopped, and all started at once, under load",
    "0 lost, 0 duplicates; first final within 3 s of the start",
    count=20,
)
def restarts_of_all(count: int) -> Result:
    """The broker stays; the load goes on."""
    firsts: list[float] = []
    with Stage(Plan(combiners=2)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            for _ in range(count):
                for name in stage.names():
                    stage.supervisor.kill(name, signal.SIGTERM)
                    stage.supervisor.stop(name)
                # What was committed is read within milliseconds.
                stage.rest(0.5)
                before, began_s = len(stage.reader.outcomes), time.monotonic()
                for name in stage.names():
                    stage.supervisor.start(name)
                wait_for(
                    lambda before=before: len(stage.reader.outcomes) > before,  # type: ignore[misc]
                    lambda: str(stage.states()),
                )
                firsts.append(time.monotonic() - began_s)
                stage.await_flow(SETTLED_MS)
        report = stage.report()
    return Result.of(
        report,
        max(firsts) <= FIRST_FINAL_S,
        "",
        restarts=len(firsts),
        first_final_median_s=sorted(firsts)[len(firsts) // 2],
        first_final_worst_s=max(firsts),
    )
