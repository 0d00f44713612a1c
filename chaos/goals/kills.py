"""Processes that end: killed at random, killed at marked steps, asked to end."""

import random

from chaos.goals.goal import Result, goal
from chaos.load import ticks
from chaos.plan import Plan
from chaos.stage import Stage

RATE_PER_S = 2000
EVERY_S = 1.5
SETTLED_MS = 200


@goal(
    "1",
    "kill -9 of a random worker or combiner, one every 1.5 s, restarted by the supervisor",
    "0 lost, 0 duplicates; longest gap ≤ 2 s; p99 ≤ 3 s (two hops)",
    count=100,
)
def random_kills(count: int) -> Result:
    """Kill whichever, whether it is well again or not."""
    chance = random.Random(1)
    with Stage(Plan(combiners=2)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            names = stage.names("worker") + stage.names("combiner")
            for _ in ticks(EVERY_S, EVERY_S * count):
                stage.kill(chance.choice(names))
            stage.await_flow(SETTLED_MS)
        report = stage.report()
    time = report.timing
    return Result.of(
        report,
        time.gap_s <= 2 and time.p99_ms <= 3000,
        gap_s=time.gap_s,
        partition_gap_s=time.partition_gap_s,
        p50_ms=time.p50_ms,
        p99_ms=time.p99_ms,
        full_share=report.rungs["none"] / max(1, report.scored),
    )
