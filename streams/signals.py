"""The closed catalogue of what can be observed from outside.

`streams/metrics.py` makes each signal a Prometheus metric; nothing else may invent one. No label
ever holds an id.
"""

from typing import Literal, NamedTuple

# Scores are due within tens of milliseconds, so the resolution is there.
LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2,
    0.3, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Signal(NamedTuple):
    """A metric: Prometheus name, kind, help text, label names, buckets of a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Workers
EVENTS_FETCHED = Signal("ensemble_worker_events_total", "counter", "Events read", ("worker",))
BAD_SKIPPED = Signal(
    "ensemble_worker_bad_events_total", "counter", "Bad events left to the combiner", ("worker",)
)
BAD_CONTROL = Signal(
    "ensemble_worker_bad_control_total", "counter", "Control records not understood", ("worker",)
)
PREDICTIONS = Signal(
    "ensemble_predictions_total", "counter", "Events scored by a model", ("model",)
)
REFUSALS = Signal(
    "ensemble_refusals_total", "counter", "Events a model refused, by reason", ("model", "reason")
)
MODEL_CRASHES = Signal(
    "ensemble_model_crashes_total", "counter", "Ends of its process by a model", ("model",)
)
MODEL_QUARANTINED = Signal(
    "ensemble_model_quarantined", "gauge", "1 while a model is left out", ("model",)
)
RECYCLES = Signal(
    "ensemble_worker_recycles_total", "counter", "Fresh starts asked for", ("worker",)
)
BATCH_ROWS = Signal(
    "ensemble_batch_rows", "histogram", "Rows of a micro-batch", ("model",), BATCH_BUCKETS
)
MODEL_SECONDS = Signal(
    "ensemble_model_seconds", "histogram", "Time of one model call", ("model",), LATENCY_BUCKETS_S
)
MODEL_CPU = Signal(
    "ensemble_model_cpu_seconds_total", "counter", "CPU time of the calls of a model", ("model",)
)
QUEUE_SECONDS = Signal(
    "ensemble_queue_seconds", "histogram", "Wait before a model call", ("model",), LATENCY_BUCKETS_S
)
BACKLOG_ROWS = Signal("ensemble_backlog_rows", "gauge", "Rows waiting for a model", ("model",))
CACHE_LOOKUPS = Signal(
    "ensemble_cache_lookups_total", "counter", "Cache look-ups", ("cache", "result")
)
CACHE_OPEN = Signal("ensemble_cache_breaker_open", "gauge", "1 while bypassed", ("cache",))

# Workers and combiners
MISSING_RECORDS = Signal(
    "ensemble_missing_records_total", "counter", "Records deleted before they were read", ("topic",)
)
PARTITIONS = Signal("ensemble_topic_partitions", "gauge", "Partitions of a topic", ("topic",))

# Combiner
SKIPPED_EVENTS = Signal(
    "ensemble_skipped_events_total",
    "counter",
    "Offsets with an outcome above a committed position that was older",
)
REWINDS = Signal("ensemble_rewinds_total", "counter", "Returns to the committed offsets")
EVENTS_SEEN = Signal("ensemble_events_total", "counter", "Events read by the combiner")
SCORED = Signal("ensemble_scored_total", "counter", "Scores published", ("fallback",))
DEAD_LETTERS = Signal("ensemble_dead_letters_total", "counter", "Dead letters", ("error",))
LATENCY_SECONDS = Signal(
    "ensemble_latency_seconds",
    "histogram",
    "From the event's timestamp to its score",
    (),
    LATENCY_BUCKETS_S,
)
JOIN_SECONDS = Signal(
    "ensemble_join_seconds",
    "histogram",
    "From the combiner's first sight of an event to its score",
    (),
    LATENCY_BUCKETS_S,
)
ESCALATED = Signal(
    "ensemble_escalated_events_total", "counter", "Events that heavy models were asked about"
)
LOST_ESCALATIONS = Signal(
    "ensemble_lost_escalations_total", "counter", "Escalations that did not reach the broker"
)
PENDING = Signal("ensemble_pending_events", "gauge", "Events waiting for predictions")
LATE = Signal("ensemble_late_predictions_total", "counter", "Answers after the score", ("model",))
REVISED = Signal(
    "ensemble_late_labels_total",
    "counter",
    "Late answers, by whether they would have changed the label",
    ("model", "changed"),
)
MISSED = Signal("ensemble_missed_predictions_total", "counter", "Scores without it", ("model",))
BAD_FRAMES = Signal(
    "ensemble_bad_frames_total", "counter", "Predictions records that are no frame", ("reason",)
)
MODEL_STATE = Signal(
    "ensemble_model_state", "gauge", "1 for the state a model is in", ("model", "state")
)
COMMIT_SECONDS = Signal(
    "ensemble_commit_seconds", "histogram", "Time of one commit", (), LATENCY_BUCKETS_S
)
BAD_HEALTH = Signal(
    "ensemble_monitor_bad_health_total", "counter", "Health records left out", ("reason",)
)
LAG_RECORDS = Signal("ensemble_lag_records", "gauge", "Records not read yet", ("topic",))

CATALOGUE: tuple[Signal, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Signal)
)
