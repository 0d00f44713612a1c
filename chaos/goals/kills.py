"""Processes that end: killed at random, killed at marked steps, asked to end."""

import random
import time
from collections import Counter

from chaos.goals.goal import Figure, Result, goal
from chaos.load import ticks
from chaos.plan import Plan
from chaos.reader import wait_for
from chaos.stage import Report, Stage
from chaos.wrapper import COMBINER_STEPS, WORKER_STEPS
from cli.restarts import RestartPolicy

RATE_PER_S = 2000
EVERY_S = 1.5
SETTLED_MS = 300
KILLED = -9
TOLD_SEED = 1


def times(report: Report) -> dict[str, Figure]:
    """The gaps and latencies of a report."""
    timing = report.timing
    return {
        "gap_s": timing.gap_s,
        "gap_of_a_partition_s": timing.partition_gap_s,
        "p50_ms": timing.p50_ms,
        "p99_ms": timing.p99_ms,
    }


@goal(
    "1",
    "kill -9 of a random worker or combiner every 1.5 s, whether it is well again or not; "
    "the supervisor restarts it",
    "0 lost, 0 duplicates; longest gap ≤ 2 s; p99 ≤ 3 s (two hops)",
    count=100,
)
def random_kills(count: int) -> Result:
    """Two workers, two combiners; the policy of `ensemble up`."""
    chance = random.Random(TOLD_SEED)
    with Stage(Plan(combiners=2)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            names = stage.names("worker") + stage.names("combiner")
            for _ in ticks(EVERY_S, EVERY_S * count):
                stage.kill(chance.choice(names))
            stage.await_flow(SETTLED_MS)
        report = stage.report()
        kills = sum(code == KILLED for _, code in stage.ended)
    return Result.of(
        report,
        report.timing.gap_s <= 2 and report.timing.p99_ms <= 3000 and kills >= count,
        "",
        kills=kills,
        **times(report),
        full_share=report.rungs["none"] / max(1, report.scored),
    )


@goal(
    "2",
    "kill -9 at each marked step: of the combiner after consume, after produce, after "
    "send_offsets, before and after commit; of a worker after fetch, after produce, before and "
    "after commit",
    "20 kills at each step; 0 lost, 0 duplicates in all of them",
    count=20,
)
def marked_kills(count: int) -> Result:
    """All combiners die at one step while a worker dies at another one."""
    kills: Counter[str] = Counter()
    reports = []
    for index, step in enumerate(COMBINER_STEPS):
        found, report = _die_again_and_again(step, WORKER_STEPS[index % len(WORKER_STEPS)], count)
        kills.update(found)
        reports.append(report)
    worst = next((report for report in reports if not report.clean), reports[-1])
    result = Result.of(worst, min(kills.values()) >= count, "", **kills)
    events = sum(report.events for report in reports)
    return Result({**result.measured, "events": events}, result.held)


def _die_again_and_again(step: str, worker_step: str, count: int) -> tuple[dict[str, int], Report]:
    # Deaths come faster here than any policy of a real system would go along with.
    policy = RestartPolicy(first_delay_ns=10_000_000, longest_delay_ns=10_000_000, crashes=10_000)
    plan = Plan(
        combiners=2,
        wrapped={
            "combiner-0": ("--die", step),
            "combiner-1": ("--die", step),
            "worker-one-0": ("--die", worker_step),
        },
    )
    with Stage(plan, policy) as stage:

        def kills(role: str) -> int:
            return sum(name.startswith(role) and code == KILLED for name, code in stage.ended)

        with stage.load(RATE_PER_S / 2):
            wait_for(
                lambda: kills("combiner") >= count and kills("worker") >= count,
                lambda: f"{step}: {kills('combiner')}, {worker_step}: {kills('worker')}",
                timeout_s=20.0 * count,
            )
        found = {f"combiner {step}": kills("combiner"), f"worker {worker_step}": kills("worker")}
        stage.unwrap()
        return found, stage.report()


@goal(
    "3",
    "SIGTERM of each process in turn, under load; the supervisor starts it again",
    "0 lost, 0 duplicates; exit 0 within 5 s; longest gap ≤ 0.5 s",
    count=50,
)
def terminations(count: int) -> Result:
    """Workers, combiners and the monitor."""
    ends: list[tuple[float, int | None]] = []
    with Stage(Plan(combiners=2)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            names = stage.names()
            for number in range(count):
                name = names[number % len(names)]
                pid = stage.pid(name)
                asked_s = time.monotonic()
                stage.terminate(name)
                code = stage.await_end(name, pid)
                ends.append((time.monotonic() - asked_s, code))
                if name != "monitor":
                    stage.await_ready(name)
                stage.await_flow(SETTLED_MS)
            stage.await_flow(SETTLED_MS)
        report = stage.report()
    slowest_s = max(took_s for took_s, _ in ends)
    strange = sum(code != 0 for _, code in ends)
    return Result.of(
        report,
        slowest_s <= 5 and not strange and report.timing.gap_s <= 0.5,
        "",
        ends=len(ends),
        other_exit_codes=strange,
        slowest_end_s=slowest_s,
        **times(report),
    )
