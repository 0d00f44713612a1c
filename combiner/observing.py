"""What is published, as metrics."""

from collections.abc import Sequence

import numpy as np

from combiner.fallback import RUNGS
from combiner.output import Output
from streams import signals
from streams.metrics import Metrics


def observe(outputs: Sequence[Output], models: Sequence[str], metrics: Metrics) -> None:
    """Count what left; `models` are the names of the columns."""
    if not outputs:
        return
    fallbacks = np.sum([output.fallbacks for output in outputs], axis=0)
    for rung, count in zip(RUNGS, fallbacks.tolist(), strict=True):
        if count:
            metrics.counter(signals.SCORED, rung).inc(count)
    for output in outputs:
        for _, bad in output.dead:
            metrics.counter(signals.DEAD_LETTERS, bad.why.error).inc()
    missed = np.sum([output.missed for output in outputs], axis=0)
    for model, count in zip(models, missed.tolist(), strict=True):
        if count:
            metrics.counter(signals.MISSED, model).inc(count)
    latency_ms = np.concatenate([output.latency_ms for output in outputs])
    waited_ms = np.concatenate([output.waited_ms for output in outputs])
    metrics.observe_many(signals.LATENCY_SECONDS, latency_ms / 1000)
    metrics.observe_many(signals.JOIN_SECONDS, waited_ms / 1000)
