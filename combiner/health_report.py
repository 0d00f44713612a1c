"""Health, told once a second: to the health topic, and as metrics."""

import msgspec
import numpy as np

from combiner.core import Combiner
from combiner.tally import ModelReport
from streams import signals
from streams.instants import NS_PER_MS, Clock, MonotonicNs, WallMs, iso_from_wall_ms
from streams.metrics import Metrics
from streams.records import HealthRecord
from streams.sink import Sink

STATES = ("HEALTHY", "DEGRADED", "FAILED", "PROBING")


class HealthReporter:
    """Tells what a combiner knows of its models.

    Args:
        sink: the door to the health topic.
        topic: its name.
        slot: whose view it is.
        metrics: where signals go.
        clock: the time.
    """

    def __init__(self, sink: Sink, topic: str, slot: str, metrics: Metrics, clock: Clock) -> None:
        self._sink = sink
        self._topic = topic
        self._slot = slot
        self._metrics = metrics
        self._clock = clock
        self.deserted = False  # whether every model was FAILED at the last report

    def report(self, core: Combiner) -> None:
        """Tell what has gathered since the last call. Raises BrokerError for an earlier one."""
        metrics = self._metrics
        pending = sum(core.pending(place) for place in core.places)
        metrics.gauge(signals.PENDING).set(pending)
        for reason, count in core.bad_frames.items():
            metrics.counter(signals.BAD_FRAMES, reason).inc(count)
        core.bad_frames.clear()
        for (model, changed), count in core.regrets().items():
            metrics.counter(signals.REVISED, model, "yes" if changed else "no").inc(count)
        now_ns, now_ms = self._clock.monotonic_ns(), self._clock.wall_ms()
        reports = core.report()
        self.deserted = all(report.state == "FAILED" for report in reports)
        for report in reports:
            record = self._record(report, now_ns, now_ms)
            value = msgspec.json.encode(record)
            self._sink.produce(self._topic, key=report.model.encode(), value=value)
            metrics.counter(signals.LATE, report.model).inc(report.tally.late)
            for state in STATES:
                here = float(state == report.state)
                metrics.gauge(signals.MODEL_STATE, report.model, state).set(here)

    def _record(self, report: ModelReport, now_ns: MonotonicNs, now_ms: WallMs) -> HealthRecord:
        tally = report.tally
        since_ms = now_ms - (now_ns - report.since_ns) // NS_PER_MS
        time, since = iso_from_wall_ms(np.array([now_ms, since_ms]))
        mean_ms = tally.latency_ns / tally.filled / NS_PER_MS if tally.filled else None
        return HealthRecord(
            report.model,
            report.state,
            self._slot,
            time,
            tally.answered,
            tally.late,
            tally.refused,
            tally.missed,
            mean_ms if mean_ms is None else round(mean_ms, 3),
            since,
        )
