"""What the demo saw, and what follows from it. Arithmetic only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PHASES = ("warm-up", "all models", "one away", "back again")
WARM_UP, ALL, AWAY_PHASE, BACK = range(len(PHASES))
# Latencies are kept whole: a minute at the demo's rate is small.
_QUANTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}


@dataclass(frozen=True, slots=True)
class Seen:
    """One scored record as the demo's own consumer received it."""

    number: int
    latency_ms: float
    score: float
    fallback: str
    missing: tuple[str, ...]
    predictions: dict[str, float]


@dataclass(slots=True)
class Observations:
    """Everything measured, collected by two threads and read when they are done.

    Attributes:
        phase_of: by event number, the phase in which it was sent.
        seen: scored records in order of arrival.
        dead: dead letters.
        unknown: scored records of events that were never sent.
        failed_after_s: from the model's disappearance to the state FAILED.
        recovered_after_s: from its return to the state HEALTHY.
    """

    phase_of: list[int] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    dead: int = 0
    unknown: int = 0
    failed_after_s: float | None = None
    recovered_after_s: float | None = None


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max, rounded to 0.1; empty without values."""
    if not values:
        return {}
    found = np.percentile(np.array(values), list(_QUANTILES.values()))
    return dict(zip(_QUANTILES, np.round(found, 1).tolist(), strict=True))


def phase_summary(seen: Sequence[Seen], sent: int) -> dict[str, object]:
    """One phase: how many, how fast, and what the scores had to do without."""
    fallbacks = Counter(record.fallback for record in seen)
    missing = Counter(model for record in seen for model in record.missing)
    degraded = sum(count for rung, count in fallbacks.items() if rung != "none")
    return {
        "events": sent,
        "scored": len(seen),
        "latency_ms": quantiles([record.latency_ms for record in seen]),
        "fallback_rate": round(degraded / len(seen), 4) if seen else 0.0,
        "fallbacks": dict(fallbacks),
        "missing": dict(missing),
    }


def auc_by_model(seen: Sequence[Seen], labels: NDArray[np.int64]) -> dict[str, float]:
    """AUC of the ensemble and of each model, each on all events it gave an answer for.

    `labels` are those of the rows, which were sent again and again in order.
    """
    from sklearn.metrics import roc_auc_score

    truth = [int(labels[record.number % len(labels)]) for record in seen]
    found = {"ensemble": float(roc_auc_score(truth, [record.score for record in seen]))}
    for model in sorted({name for record in seen for name in record.predictions}):
        pairs = [
            (label, record.predictions[model])
            for label, record in zip(truth, seen, strict=True)
            if model in record.predictions
        ]
        found[model] = float(roc_auc_score(*zip(*pairs, strict=True)))
    return {name: round(value, 4) for name, value in found.items()}


def summary_of(
    observed: Observations, labels: NDArray[np.int64], setting: dict[str, object]
) -> dict[str, object]:
    """The whole summary, as `--json` prints it."""
    counts = Counter(record.number for record in observed.seen)
    sent = len(observed.phase_of)
    sent_in = Counter(observed.phase_of)
    phases = {
        name: phase_summary(
            [record for record in observed.seen if observed.phase_of[record.number] == phase],
            sent_in[phase],
        )
        for phase, name in enumerate(PHASES)
    }
    return {
        **setting,
        "events": sent,
        "scored": len(counts),
        "dead_letters": observed.dead,
        "lost": sent - len(counts) - observed.dead,
        "duplicates": len(observed.seen) - len(counts) + observed.unknown,
        "latency_ms": quantiles([record.latency_ms for record in observed.seen]),
        "phases": phases,
        "failed_after_s": observed.failed_after_s,
        "recovered_after_s": observed.recovered_after_s,
        "auc": auc_by_model(observed.seen, labels) if observed.seen else {},
    }
