"""Downtime, what piled up meanwhile, and partitions that one consumer lets wait."""

import time

from chaos.goals.goal import Result, goal
from chaos.goals.kills import RATE_PER_S, SETTLED_MS, times
from chaos.plan import Plan
from chaos.stage import Stage
from chaos.verdict import longest_gap_s

OUTAGE_RATE_PER_S = 5000
CATCH_UP_S = 240.0
MEMORY = 1.5
MIB = 1 << 20


@goal(
    "catch-up",
    "all workers and combiners down while 5,000 events/s go on, then started",
    "60 s; 0 lost, 0 duplicates; 99 % of the backlog with all models; memory bounded; fresh events "
    "in time again by themselves",
    count=60,
)
def catch_up(count: int) -> Result:
    """The load goes on until fresh events are in time again."""
    with Stage(Plan(partitions=4)) as stage:
        stage.await_ready()
        with stage.load(OUTAGE_RATE_PER_S):
            stage.await_flow(SETTLED_MS, CATCH_UP_S)
            stage.rest(5)
            names = stage.names("worker") + stage.names("combiner")
            before = sum(map(stage.rss_bytes, names))
            for name in names:
                stage.supervisor.stop(name)
            down_ns = time.monotonic_ns()
            stage.rest(float(count))
            up_ns = time.monotonic_ns()
            for name in names:
                stage.supervisor.start(name)
            largest = 0

            def caught_up() -> None:
                nonlocal largest
                largest = max(largest, sum(map(stage.rss_bytes, names)))

            stage.await_flow(SETTLED_MS, CATCH_UP_S, meanwhile=caught_up)
            caught_up_s = (time.monotonic_ns() - up_ns) / 1e9
        report = stage.report()
        sent = stage.acknowledged.sent_ns
        backlog = [o for o in stage.reader.outcomes if down_ns < sent.get(o.source, 0) < up_ns]
    full = sum(outcome.rung == "none" for outcome in backlog) / max(1, len(backlog))
    return Result.of(
        report,
        full >= 0.99 and largest <= before * MEMORY + 300 * MIB,
        "memory of workers and combiners together: before, and the most while catching up",
        backlog=len(backlog),
        full_share=full,
        caught_up_after_s=caught_up_s,
        memory_before_mib=before // MIB,
        memory_most_mib=largest // MIB,
    )


@goal(
    "one-slow",
    "one of two combiners asleep for 4 s",
    "0 lost, 0 duplicates; partitions of the other one flow: gap ≤ 0.5 s",
    count=5,
)
def one_slow(count: int) -> Result:
    """Shorter than the session, so that nobody takes over."""
    worst = 0.0
    with Stage(Plan(combiners=2)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            for _ in range(count):
                before = len(stage.reader.outcomes)
                began_ns = time.monotonic_ns()
                pid = stage.freeze("combiner-0")
                stage.rest(4.0)
                ended_ns = time.monotonic_ns()
                read: dict[str, list[int]] = {}
                for outcome in stage.reader.outcomes[before:]:
                    if outcome.read_ns > began_ns + 500_000_000:
                        lane = outcome.source.rpartition("/")[0]
                        read.setdefault(lane, []).append(outcome.read_ns)
                stage.thaw(pid)
                span = [began_ns + 500_000_000, ended_ns]
                gaps = sorted(longest_gap_s(span, at) for at in read.values())
                flowing = stage.plan.partitions // 2
                worst = max([worst, *gaps[:flowing]], default=4.0)
                worst = worst if len(gaps) >= flowing else 4.0
                stage.await_flow(SETTLED_MS)
        report = stage.report()
    return Result.of(report, worst <= 0.5, "", gap_of_the_others_s=worst, **times(report))
