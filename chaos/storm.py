"""Every kind of fault in random order, and what came of it."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.faults import FAULTS, mixed_event
from chaos.load import POISON_KEY
from chaos.plan import ANY_TIMESTAMP, Plan
from chaos.stage import Report, Stage
from chaos.verdict import DEAD, Outcome

# What piled up during the last faults.
SETTLE_S = 180.0
LONGEST_PAUSE_S = 2.0
PLAN = Plan(
    broker_properties=ANY_TIMESTAMP,
    kafka_proxy=True,
    redis_proxy=True,
    combiners=2,
    models={
        "mild": "chaos.models:mild",
        "steep": "chaos.models:steep",
        "moody": "chaos.models:moody",
    },
    workers={"one": ("mild",), "two": ("steep",), "three": ("moody",)},
    tables={"worker": {"hang_ms": 2000}},
)


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of a storm.

    Attributes:
        seed, seconds, rate_per_s: of what.
        faults: kind → how often.
        ends: how often a process ended, for whatever reason.
        report: what the readers saw.
        misjudged: dead letters of good events, and scores of bad ones.
        complaint: what was still missing at the end; empty if nothing.
        vanished: events that the broker acknowledged without an offset, and has not.
        copies: events that it has without having acknowledged them.
    """

    seed: int
    seconds: float
    rate_per_s: float
    faults: Counter[str]
    ends: int
    report: Report
    misjudged: int
    complaint: str
    vanished: int = 0
    copies: int = 0

    @property
    def survived(self) -> bool:
        """Exactly one outcome of the right kind for each event, in order."""
        return self.report.clean and not self.misjudged


def raise_storm(
    seconds: float,
    seed: int,
    rate_per_s: float,
    tell: Callable[[str], None],
    kinds: Sequence[str] = tuple(FAULTS),
    logs: Path | None = None,
) -> Storm:
    """Break everything for some seconds, and wait until it has recovered.

    Args:
        seconds: how long.
        seed: of the order of faults; each kind comes once before one comes again.
        rate_per_s: events per second.
        tell: called with each fault as it begins.
        kinds: of `FAULTS`.
        logs: where the logs of a storm go that was not survived.
    """
    chance = random.Random(seed)
    faults: Counter[str] = Counter()
    with Stage(PLAN) as stage:
        stage.await_ready()
        with stage.load(rate_per_s, mixed_event):
            stage.await_flow()
            end_s = time.monotonic() + seconds
            left: list[str] = []
            while time.monotonic() < end_s:
                left = left or chance.sample(kinds, len(kinds))
                name = left.pop()
                tell(name)
                FAULTS[name](stage, chance)
                faults[name] += 1
                stage.rest(chance.uniform(0.2, LONGEST_PAUSE_S))
        report = stage.report(wait=lambda: stage.await_outcomes(SETTLE_S))
        wrong = sum(_misjudged(each) for each in stage.reader.outcomes)
        storm = Storm(
            seed, seconds, rate_per_s, faults, len(stage.ended), report, wrong, stage.complaint,
            len(stage.acknowledged.vanished), len(stage.acknowledged.copies),
        )  # fmt: skip
        if logs is not None and not storm.survived:
            stage.copy_logs(logs)
        return storm


def _misjudged(outcome: Outcome) -> bool:
    """Whether it is a score without an id of ours, or the dead letter of an event that has one."""
    if outcome.rung == DEAD:
        return not outcome.id.startswith(POISON_KEY.decode())
    return not outcome.id.startswith("e")


def rows_of(storm: Storm) -> list[tuple[str, str]]:
    """The table of a storm: what, and how much."""
    report, timing = storm.report, storm.report.timing
    rungs = ", ".join(f"{name} {count:,}" for name, count in report.rungs.most_common())
    return [
        *((f"fault: {name}", f"{count}") for name, count in sorted(storm.faults.items())),
        ("faults in all", f"{storm.faults.total()}"),
        ("ends of processes", f"{storm.ends:,}"),
        ("seconds, events per second", f"{storm.seconds:g}, {storm.rate_per_s:g}"),
        ("events", f"{report.events:,}"),
        ("acknowledged, and not in the topic", f"{storm.vanished:,}"),
        ("of these in the topic, and not acknowledged", f"{storm.copies:,}"),
        ("scored", f"{report.scored:,} ({rungs})"),
        ("dead letters", f"{report.dead:,}"),
        ("scored or dead by mistake", f"{storm.misjudged:,}"),
        *_wrong(report),
        ("late (faults included)", f"{timing.late:,}"),
        ("latency p50, p99, max", _latency(timing.p50_ms, timing.p99_ms, timing.max_ms)),
        ("longest gap", f"{timing.gap_s:.1f} s; of one partition {timing.partition_gap_s:.1f} s"),
    ]


def _wrong(report: Report) -> list[tuple[str, str]]:
    """What the reader beside the storm counted, and what another one found afterwards."""
    kinds = {
        "lost": "lost",
        "duplicates": "duplicates",
        "contradictory": "contradictory",
        "strange": "of no event",
        "disordered": "out of order",
    }
    counted = (
        (name, len(getattr(report.during, kind)), len(getattr(report.after, kind)))
        for kind, name in kinds.items()
    )
    return [
        (name, f"{live:,}" if live == later else f"{live:,} live, {later:,} afterwards")
        for name, live, later in counted
    ]


def examples(storm: Storm, most: int = 5) -> list[str]:
    """Some of the events of which something is wrong."""
    return [
        f"{kind} {when}: {', '.join(found[:most])}"
        for when, verdict in (("live", storm.report.during), ("afterwards", storm.report.after))
        for kind, found in vars(verdict).items()
        if found
    ]


def _latency(p50_ms: float, p99_ms: float, max_ms: float) -> str:
    return f"{p50_ms:.0f} ms, {p99_ms / 1000:.1f} s, {max_ms / 1000:.1f} s"
