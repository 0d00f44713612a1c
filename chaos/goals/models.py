"""Models that are slow, hung or wrong: the others go on, and every event has its score."""

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chaos import models
from chaos.goals.goal import Figure, Result, goal
from chaos.load import Event
from chaos.models_bad import COUNT_VARIABLE
from chaos.plan import Plan
from chaos.poison import (
    BAD,
    DEADLINE_MS,
    GOOD,
    PATIENT,
    RATE_PER_S,
    InTime,
    PoisonedLoad,
    plan_with,
    records_of,
)
from chaos.reader import wait_for
from chaos.stage import Stage

HANG_MS = 2000
# What takes less is of a system that runs: the deadline, and what the broker needs.
WARM_MS = 300


@goal(
    "15",
    "a member takes 200 ms a call, and is waited for all the time (deadline 90 ms)",
    "100 % of the scores decided by deadline + 10 ms, all marked and naming it",
    count=20,
)
def slow_model(count: int) -> Result:
    """So many seconds of load."""
    with Stage(plan_with({"slow": "slow"}, health=PATIENT)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(WARM_MS)
            in_time, cold = InTime(stage), len(stage.acknowledged.sent_ns)
            stage.rest(count)
        report = stage.report()
        share = in_time.share()
        found = records_since(stage, cold)
    marked = sum(says_without(record, "slow") for record in found)
    return Result.of(
        report,
        share == 1.0 and marked == len(found),
        in_time_share=share,
        marked_share=marked / max(1, len(found)),
        p50_ms=report.timing.p50_ms,
        p99_ms=report.timing.p99_ms,
    )


@goal(
    "15b",
    "a member that can do 500 rows a second shares a process with good ones, at 2,000 a second",
    "the good ones are in every score but for the first seconds",
    count=40,
)
def model_that_is_too_slow(count: int) -> Result:
    """So many seconds of load; the backlog is small, so that it is full early."""
    plan = Plan(
        models={**GOOD, "laborious": BAD + "laborious"},
        workers={"all": (*GOOD, "laborious")},
        tables={"combiner": {"deadline_ms": DEADLINE_MS}, "worker": {"max_backlog": 4000}},
    )
    with Stage(plan) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(WARM_MS)
            in_time, cold = InTime(stage), len(stage.acknowledged.sent_ns)
            stage.rest(count)
        report = stage.report()
        share = in_time.share()
        found = records_since(stage, cold)
    without = [record for record in found if not GOOD.keys() <= set(record["models"])]
    return Result.of(
        report,
        len(without) <= 4 * RATE_PER_S,
        in_time_share=share,
        scores_without_the_others=len(without),
        p50_ms=report.timing.p50_ms,
        p99_ms=report.timing.p99_ms,
    )


def number_of(record: Mapping[str, Any]) -> int:
    """Of the event, in the order in which they were sent."""
    return int(record["id"].removeprefix("e"))


def says_without(record: Mapping[str, Any], model: str) -> bool:
    """Whether a score says that it had to do without a model."""
    return record["fallback"] != "none" and model in record["missing"]


def records_since(stage: Stage, cold: int) -> list[dict[str, Any]]:
    """Scored records without those of so many first events, which met processes still cold."""
    return [record for record in records_of(stage) if number_of(record) >= cold]


def has_sent(stage: Stage, events: int) -> bool:
    """Whether the broker has more than so many."""
    return len(stage.acknowledged.sent_ns) > events


def hung(count: int, function: str) -> Result:
    """So many poisoned events, each of which hangs the model until the watchdog comes."""
    load = PoisonedLoad(every=12 * RATE_PER_S, limit=count)
    plan = plan_with({"hung": function}, health=PATIENT, worker={"hang_ms": HANG_MS})
    ends_s: list[float] = []
    with Stage(plan) as stage:
        stage.await_ready()
        name = "worker-hung-0"
        with stage.load(RATE_PER_S, load):
            stage.await_flow(WARM_MS)
            in_time = InTime(stage)
            for number in range(count):
                due = load.every * number + load.every // 2 + RATE_PER_S // 50
                wait_for(partial(has_sent, stage, due), str)
                for _ in range(2):
                    pid = stage.pid(name)
                    began_s = time.monotonic()
                    stage.await_end(name, pid)
                    ends_s.append(time.monotonic() - began_s)
                    stage.await_ready(name)
            stage.rest(2)
        report = stage.report()
        share = in_time.share()
        codes = Counter(code for _, code in stage.ended)
        crashes = stage.metric(name, "ensemble_model_crashes_total")
        others = {ended for ended, _ in stage.ended} - {name}
        found = records_of(stage)
    few = [record for record in found if "hung" not in record["models"]]
    marked = sum(says_without(record, "hung") for record in few)
    first_s = max(ends_s[::2])
    return Result.of(
        report,
        share == 1.0
        and marked == len(few)
        and crashes == codes.total() == 2 * count
        and first_s <= 2 * HANG_MS / 1000
        and not others,
        note=f"exit codes {dict(codes)}",
        in_time_share=share,
        killed_after_s=first_s,
        full_share=report.rungs["none"] / max(1, report.scored),
        ends_per_event=crashes / count,
        p99_ms=report.timing.p99_ms,
    )


@goal(
    "16",
    "a member never returns from one event, letting other threads run (hang_ms 2,000)",
    "as 15 while it is away; its process ends within twice hang_ms, and twice in all",
    count=2,
)
def hung_model(count: int) -> Result:
    """`sleep`."""
    return hung(count, "hangs_on_poison")


@goal(
    "16b",
    "the same in C code that holds the interpreter's lock",
    "as 16",
    count=2,
)
def hung_model_with_lock(count: int) -> Result:
    """A sum over 10^15 numbers."""
    return hung(count, "holds_on_poison")


# Model → the reason under which its refusals are counted, for those that never give an answer.
WRONG = {
    "nan": "returned",
    "infinite": "returned",
    "square": "returned",
    "short": "returned",
    "long": "returned",
    "scalar": "returned",
    "complex_numbers": "returned",
    "words": "returned",
    "objects": "raised",
    "huge": "returned",
    "raises": "raised",
    "exits": "raised",
    "interrupts": "raised",
    "writes": "raised",
    "above": "outside",
}
AT_TIMES = ("raises_at_times", "raises_on_poison", "alias", "reuses", "scribbles")


def answer_of(model: str, x: float) -> float:
    """What a model says of an event if it says anything."""
    row = np.array([[x, 0.0]])
    function = getattr(models, model, None) if model in GOOD else None
    return float(function(row)[0]) if function else x


@goal(
    "17",
    "17 members that raise always, at times, on some rows, return NaN, infinity, wrong shapes and "
    "types, or write to their input, in one process",
    "none of it in a mean; all counted by model and reason; FAILED; the others in every score",
    count=15,
)
def wrong_models(count: int) -> Result:
    """So many seconds of load, one event in 997 poison."""
    bad = [*WRONG, *AT_TIMES]
    plan = Plan(
        models={**GOOD, **{name: BAD + name for name in bad}},
        workers={"good": tuple(GOOD), "bad": bad},
        tables={"combiner": {"deadline_ms": DEADLINE_MS}},
    )
    xs: dict[str, float] = {}
    poison = PoisonedLoad(every=997, limit=10**9)

    def event(number: int) -> Event:
        value, key, timestamp_ms = poison(number)
        text = (value or b"").decode()
        xs[f"e{number}"] = float(text.partition('"x":')[2].partition(",")[0].rstrip("}"))
        return value, key, timestamp_ms

    with Stage(plan) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S / 2, event):
            stage.await_flow(WARM_MS)
            cold = len(stage.acknowledged.sent_ns)
            stage.rest(count)
            failed = sum(
                stage.metric("combiner-0", f'ensemble_model_state{{model="{n}",state="FAILED"}}')
                for n in WRONG
            )
        report = stage.report()
        counted = {
            name: stage.metric(
                "worker-bad-0", f'ensemble_refusals_total{{model="{name}",reason="{reason}"}}'
            )
            for name, reason in WRONG.items()
        }
        ended = len(stage.ended)
        found = records_of(stage)
    wrong_scores = sum(not is_mean(record, xs[record["id"]]) for record in found)
    warm = [record for record in found if number_of(record) >= cold]
    without = sum(not GOOD.keys() <= set(record["models"]) for record in warm)
    uncounted = sum(number != report.events for number in counted.values())
    return Result.of(
        report,
        not (wrong_scores or without or uncounted or ended) and failed == len(WRONG),
        wrong_scores=wrong_scores,
        scores_without_the_others=without,
        models_failed=int(failed),
        models_not_counted_exactly=uncounted,
        p99_ms=report.timing.p99_ms,
    )


def is_mean(record: Mapping[str, Any], x: float) -> bool:
    """Whether a score is the mean of what its models truly said, and no wrong one among them.

    One that no model made, because all were late, has nothing wrong in it.
    """
    used = record["models"]
    if not used:
        return record["fallback"] in {"cached", "prior"}
    if set(used) & WRONG.keys():
        return False
    expected = sum(answer_of(model, x) for model in used) / len(used)
    return bool(abs(record["score"] - expected) < 1e-9)


@contextmanager
def counting(path: Path) -> Iterator[None]:
    """Processes that start within it count in this file."""
    path.write_bytes(b"")
    os.environ[COUNT_VARIABLE] = str(path)
    try:
        yield
    finally:
        del os.environ[COUNT_VARIABLE]


@goal(
    "12",
    "10,000 events of one key and one content in a burst, cache cold, two processes; Redis there, "
    "hung, and gone",
    "at most 1 computation per key and process",
    count=1,
)
def burst(count: int) -> Result:
    """So often for each state of Redis."""
    events = 0
    computed: dict[str, Figure] = {}
    held, report = True, None
    plan = Plan(
        models={"counts": BAD + "counts"},
        details={"counts": {"cache_predictions": True}},
        workers={"one": ("counts",)},
        processes={"one": 2},
    )
    value = b'{"id":"same","x":0.7}'
    for state in ("there", "hung", "gone") * count:
        path = Path(tempfile.gettempdir()) / f"chaos-{os.getpid()}.count"
        with counting(path), Stage(plan) as stage:
            assert stage.cache is not None
            stage.await_ready()
            if state == "hung":
                os.kill(stage.cache.pid, signal.SIGSTOP)
            elif state == "gone":
                stage.cache.stop()
            with stage.load(20_000, lambda _: (value, b"same", 0)):
                wait_for(partial(has_sent, stage, 10_000), str)
            report = stage.report()
            if state == "hung":
                os.kill(stage.cache.pid, signal.SIGCONT)
        rows = path.stat().st_size
        path.unlink()
        events += report.events
        held = held and report.clean and 0 < rows <= 2
        computed[f"rows_computed_redis_{state}"] = rows
    assert report is not None, "nothing was measured"
    return Result({"events": events, **computed}, held)
