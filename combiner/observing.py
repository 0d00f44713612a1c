"""What is published, as metrics."""

from collections.abc import Sequence

from combiner.fallback import RUNGS
from combiner.output import Output
from streams import signals
from streams.metrics import Metrics


def observe(output: Output, models: Sequence[str], metrics: Metrics) -> None:
    """Count what left; `models` are the names of the columns."""
    for rung, count in zip(RUNGS, output.fallbacks.tolist(), strict=True):
        if count:
            metrics.counter(signals.SCORED, rung).inc(count)
    for _, bad in output.dead:
        metrics.counter(signals.DEAD_LETTERS, bad.why.error).inc()
    for model, count in zip(models, output.missed.tolist(), strict=True):
        if count:
            metrics.counter(signals.MISSED, model).inc(count)
    metrics.observe_many(signals.LATENCY_SECONDS, output.latency_ms / 1000)
    metrics.observe_many(signals.JOIN_SECONDS, output.waited_ms / 1000)
