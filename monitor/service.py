"""The monitor process: a Faust agent on the health topic, its table, and Prometheus gauges."""

import asyncio
import logging
import signal
from typing import Any

import faust
import msgspec

from monitor.board import SEVERITY, Verdict, Views, verdict, with_view
from streams import signals
from streams.admin import TopicAdmin, WantedTopic
from streams.app import make_app
from streams.clock import SystemClock
from streams.errors import BrokerError, ConfigurationError
from streams.instants import Clock
from streams.metrics import Metrics, serve
from streams.reader import require_readable
from streams.records import RecordError, decode_health
from streams.settings import Settings

log = logging.getLogger(__name__)

# Twice as often as a combiner speaks, so that an expired view is noticed in time.
_LOOK_EVERY_S = 0.5
_STOP_TIMEOUT_S = 2.0
# Lag is for people and autoscalers; each look costs the broker two requests.
_LAG_EVERY_S = 5.0

_decode_views = msgspec.json.Decoder(Views).decode


def run_monitor(settings: Settings, *, metrics_port: int | None = None) -> None:
    """Watch the health topic until SIGTERM or SIGINT.

    Args:
        settings: the configuration.
        metrics_port: instead of the configured one.

    Raises:
        ConfigurationError: a setting does not fit.
        BrokerError: Kafka refuses, or lacks the health topic; start again.
    """
    monitor = Monitor(settings, Metrics(), SystemClock())
    port = settings.metrics.monitor_port if metrics_port is None else metrics_port
    server = serve(monitor.metrics, settings.metrics.host, port, lambda: monitor.ready)
    try:
        asyncio.run(monitor.run())
    finally:
        server.close()


def combiner_group(settings: Settings) -> str:
    """The consumer group of the ensemble's combiners."""
    return f"{settings.ensemble.name}.combiner"


class Monitor:
    """Everything of the monitor but its metrics page.

    The table is Faust's: model → the views of the combiners, as JSON, kept in a changelog topic,
    so that a monitor that is started again knows what the one before it knew.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock) -> None:
        self.metrics = metrics
        self._settings = settings
        self._models = {model.name for model in settings.models}
        self._clock = clock
        self._admin = TopicAdmin(settings.kafka)
        self._stopping = asyncio.Event()
        self._shown: dict[str, Verdict] = {}
        self._app = make_app(f"{settings.ensemble.name}.monitor", settings.kafka)
        # What was said before the monitor came has been overtaken.
        self._app.conf.consumer_auto_offset_reset = "latest"
        partitions = self._make_changelog()
        require_readable(
            settings.kafka, settings.topics.health, f"{settings.ensemble.name}.monitor"
        )
        self._table: Any = self._app.Table(
            "health", partitions=partitions, key_type=str, value_type=bytes
        )
        topic = self._app.topic(
            settings.topics.health, value_type=bytes, value_serializer="raw", acks=True
        )
        self._app.agent(topic, name="health")(self._watch)
        self._started = False

    @property
    def ready(self) -> bool:
        """Whether the health topic is being read."""
        return self._started and not self._app.rebalancing and not self._app.crashed

    async def run(self) -> None:
        """Watch until SIGTERM or SIGINT; raises what went wrong."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        starting = asyncio.create_task(self._start())
        sampling = asyncio.create_task(self._sample_lag())
        try:
            while not self._stopping.is_set():
                if starting.done():
                    starting.result()
                if self._app.crashed:
                    raise BrokerError(f"Faust gave up: {self._app.crash_reason!r}")
                self._show()
                await self._pause()
        finally:
            starting.cancel()
            sampling.cancel()
            await self._stop()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), _LOOK_EVERY_S)
        except TimeoutError:
            return

    async def _sample_lag(self) -> None:
        """How far the combiners are behind, every few seconds."""
        topics = [*self._settings.topics.inputs, self._settings.topics.predictions]
        group = combiner_group(self._settings)
        while True:
            try:
                found = await asyncio.to_thread(self._admin.lag, group, topics, _LAG_EVERY_S)
            except BrokerError as error:
                log.debug("%s", error)
            else:
                for topic, records in found.items():
                    self.metrics.gauge(signals.LAG_RECORDS, topic).set(records)
            await asyncio.sleep(_LAG_EVERY_S)

    async def _start(self) -> None:
        try:
            await self._app.start()
        except Exception as error:  # Faust lets through what its Kafka client raises
            raise BrokerError(f"Faust cannot start: {error}") from error
        self._started = True

    async def _stop(self) -> None:
        try:
            await asyncio.wait_for(self._app.stop(), _STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("Faust did not stop within %g s; leaving it", _STOP_TIMEOUT_S)

    def _make_changelog(self) -> int:
        """Make the table's topic if need be; the partitions it and the health topic have."""
        settings = self._settings
        name = f"{settings.ensemble.name}.monitor-health-changelog"
        states = self._admin.states([settings.topics.health, name])
        health, changelog = states.get(settings.topics.health), states.get(name)
        if health is None:
            raise BrokerError(
                f"topic {settings.topics.health} does not exist; "
                "make it with `ensemble topics create`"
            )
        if changelog is None:
            wanted = WantedTopic("monitor", name, health.partitions, "compact")
            self._admin.create([wanted], settings.topics)
        elif changelog.partitions != health.partitions:
            raise ConfigurationError(
                f"topic {name}",
                f"has {changelog.partitions} partitions and {health.name} {health.partitions}; "
                "delete it, it is made again",
            )
        return health.partitions

    async def _watch(self, stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            try:
                record = decode_health(value)
            except RecordError as error:
                log.warning("a health record cannot be read: %s", error)
                self.metrics.counter(signals.BAD_HEALTH, "no record").inc()
                continue
            if record.model not in self._models:
                # Somebody else's, or made up: each would be a gauge for ever.
                self.metrics.counter(signals.BAD_HEALTH, "unknown model").inc()
                continue
            views = with_view(self._views(record.model), record, self._clock.wall_ms())
            self._table[record.model] = msgspec.json.encode(views)

    def _views(self, model: str) -> Views:
        value = self._table.get(model)
        return _decode_views(value) if value else {}

    def _show(self) -> None:
        """Bring the gauges up to date, and log what has changed."""
        now_ms = self._clock.wall_ms()
        for model in (*self._table.keys(), *self._shown):
            found = verdict(self._views(model), now_ms)
            before = self._shown.get(model, "UNKNOWN")
            if found == before and model in self._shown:
                continue
            self._shown[model] = found
            for state in SEVERITY:
                gauge = self.metrics.gauge(signals.MODEL_STATE, model, state)
                gauge.set(float(state == found))
            level = logging.INFO if found == "HEALTHY" else logging.WARNING
            log.log(level, "%s: %s, was %s", model, found, before)
