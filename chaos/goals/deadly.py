"""Models that take their process with them, or all of its memory."""

import time
from collections import Counter
from http.client import HTTPException

from chaos.goals.goal import Figure, Result, goal
from chaos.load import ticks
from chaos.plan import Plan
from chaos.poison import BAD, GOOD, RATE_PER_S, PoisonedLoad, plan_with, records_of
from chaos.reader import wait_for
from chaos.stage import Stage

MB = 1_000_000
REFUSED = 'ensemble_refusals_total{model="greedy",reason="raised"}'
CRASHES, QUARANTINED = "ensemble_model_crashes_total", "ensemble_model_quarantined"


@goal(
    "18",
    "a member crashes with a segmentation fault on some events, another one leaks 1 MB per 1,000 "
    "events (max_memory_mb 160)",
    "only these processes end; 0 lost, 0 duplicates; two crashes for each event; memory below "
    "its limit",
    count=6,
)
def deadly_models(count: int) -> Result:
    """So many poisoned events, ten seconds apart."""
    limit_mb = 160
    bad = {"crash": "crashes_on_poison", "leak": "leaks"}
    poison = PoisonedLoad(every=10 * RATE_PER_S, limit=count)
    most_bytes = 0
    with Stage(plan_with(bad, worker={"max_memory_mb": limit_mb})) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S, poison):
            for _ in ticks(0.1, 10 * count):
                most_bytes = max(most_bytes, stage.rss_bytes("worker-leak-0"))
        # Scores do not wait for it, so it may be behind.
        wait_for(lambda: metric_of(stage, "worker-crash-0", CRASHES) >= 2 * count, str)
        report = stage.report()
        ends = Counter(stage.ended)
        crashes = stage.metric("worker-crash-0", CRASHES)
        recycles = stage.metric("worker-leak-0", "ensemble_worker_recycles_total")
    names = {name for name, _ in ends}
    return Result.of(
        report,
        names == {"worker-crash-0", "worker-leak-0"}
        and most_bytes < limit_mb * MB
        and crashes == 2 * count,
        note=", ".join(f"{name} ended {n}x with {code}" for (name, code), n in ends.items()),
        crashes=int(crashes),
        recycles=int(recycles),
        most_memory_mb=most_bytes / MB,
        gap_s=report.timing.gap_s,
        p99_ms=report.timing.p99_ms,
    )


@goal(
    "18b",
    "a member of a shared process crashes always",
    "it is left out after five crashes, and the other members of its process go on",
    count=1,
)
def deadly_model_in_company(count: int) -> Result:
    """So often, each on a new stage."""
    figures: dict[str, Figure] = {}
    held, report = True, None
    for _ in range(count):
        plan = Plan(
            models={**GOOD, "crash": BAD + "crashes"},
            workers={"one": ("mild",), "two": ("steep", "crash")},
        )
        with Stage(plan) as stage:
            stage.await_ready()
            began_s = time.monotonic()
            with stage.load(RATE_PER_S):
                wait_for(lambda: metric_of(stage, "worker-two-0", QUARANTINED), str)
                took_s = time.monotonic() - began_s
                stage.await_ready("worker-two-0")
                stage.rest(5)
            report = stage.report()
            ends = Counter(stage.ended)
            tail = [r for r in records_of(stage) if "quarantined" in str(r["missing"])]
        with_the_other = sum("steep" in record["models"] for record in tail)
        only = set(ends) == {("worker-two-0", -11)}
        held = held and only and with_the_other >= 0.99 * len(tail) > 0
        figures = {
            "crashes": ends.total(),
            "left_out_after_s": took_s,
            "scores_afterwards": len(tail),
            "with_its_neighbour": with_the_other,
        }
    assert report is not None, "nothing was measured"
    return Result.of(report, held, **figures)


def metric_of(stage: Stage, name: str, line: str) -> float:
    """As `stage.metric`, of a process that may just be ending; 0 then."""
    try:
        return stage.metric(name, line)
    except (OSError, HTTPException):
        return 0.0


@goal(
    "18c",
    "a member asks for a terabyte on some events (max_address_space_mb 2,000)",
    "it gets a MemoryError, its row is refused, and no process ends",
    count=6,
)
def greedy_model(count: int) -> Result:
    """So many poisoned events, five seconds apart."""
    poison = PoisonedLoad(every=5 * RATE_PER_S, limit=count)
    most_bytes = 0
    plan = plan_with(
        {"greedy": "hoards_on_poison"}, worker={"max_address_space_mb": 2000, "hang_ms": 60_000}
    )
    with Stage(plan) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S, poison):
            for _ in ticks(0.1, 5 * count):
                most_bytes = max(most_bytes, stage.rss_bytes("worker-greedy-0"))
        wait_for(lambda: metric_of(stage, "worker-greedy-0", REFUSED) >= count, str)
        report = stage.report()
        ended = len(stage.ended)
        refused = metric_of(stage, "worker-greedy-0", REFUSED)
    return Result.of(
        report,
        not ended and refused == count and most_bytes < 2000 * MB,
        f"{ended} processes ended" if ended else "",
        rows_refused=int(refused),
        most_memory_mb=most_bytes / MB,
        p99_ms=report.timing.p99_ms,
    )
