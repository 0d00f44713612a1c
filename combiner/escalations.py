"""The way out for uncertain events: to the topic that heavy models read, and never in the way.

Outside of transactions: after a restart the event is read again and escalated again, and repeated
answers change nothing. An escalation that is lost costs its event the heavy answers, as if the
models had been late; so nothing here waits, and nothing raises.
"""

import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from combiner.output import Place
from combiner.window import EventBlock
from streams import signals
from streams.client import misconfigured, plain_errors
from streams.errors import BrokerError
from streams.escalations import escalation_headers
from streams.instants import NS_PER_MS, Clock
from streams.lifeline import Lifeline
from streams.metrics import Metrics
from streams.settings import Settings
from streams.sink import producer_config

log = logging.getLogger(__name__)

# While a broker is away the log need not hear of it for each event.
_COMPLAIN_EVERY_NS = 10_000 * NS_PER_MS


class Escalations:
    """Publishes events once more, each on the partition of its own number.

    Args:
        settings: the configuration.
        metrics: where signals go.
        clock: the time.

    Raises:
        ConfigurationError: the client does not accept a property.
    """

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock) -> None:
        self._kafka = settings.kafka
        self._topic = settings.topics.escalations
        self._metrics = metrics
        self._clock = clock
        self._complained_ns: int | None = None
        tuning = settings.combiner
        self._properties: dict[str, Any] = {
            # Nobody waits longer for an answer; the client wants some time for batches.
            "message.timeout.ms": max(tuning.catch_up_limit_ms, tuning.deadline_ms, 1000),
            **producer_config(settings.kafka),
            "on_delivery": self._delivered,
            "delivery.report.only.error": True,
        }
        self._begin()

    def _begin(self) -> None:
        try:
            self._producer = producer = Producer(self._properties)
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error
        self._cut_off = cut_off = threading.Event()

        def on_lost(problem: BrokerError) -> None:
            log.warning("%s", problem)
            cut_off.set()

        self._lifeline = Lifeline(
            self._kafka, producer, lambda wait_s: producer.list_topics(self._topic, wait_s), on_lost
        )

    def _begin_anew(self, why: str) -> None:
        """Go on with a new client; what the old one still has is lost."""
        log.warning("another client escalates from now on: %s", why)
        self.close()
        self._begin()

    def publish(self, escalated: Sequence[tuple[Place, EventBlock]]) -> None:
        """Queue events of some places; whatever finds no room is lost. Never waits."""
        for place, block in escalated:
            self._metrics.counter(signals.ESCALATED).inc(len(block))
            self._queue(place, block)
        try:
            with plain_errors():
                self._producer.poll(0)
        except KafkaException as error:
            self._begin_anew(error.args[0].str())
        if self._cut_off.is_set():
            self._begin_anew("the client has lost its brokers")

    def _queue(self, place: Place, block: EventBlock) -> None:
        values = block.values
        assert values is not None, "of a cascade events are kept whole"
        offsets, times_ms = block.offsets.tolist(), block.record_ms.tolist()
        for row, (offset, time_ms) in enumerate(zip(offsets, times_ms, strict=True)):
            try:
                self._producer.produce(
                    self._topic,
                    value=values[row],
                    key=block.keys[row],
                    partition=place[1],
                    headers=list(escalation_headers(place, offset, time_ms)),
                )
            except BufferError:
                self._lost(len(block) - row, "the queue is full")
                return
            except KafkaException as error:
                self._lost(1, error.args[0].str())

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._lost(1, error.str())

    def _lost(self, count: int, why: str) -> None:
        self._metrics.counter(signals.LOST_ESCALATIONS).inc(count)
        now_ns = self._clock.monotonic_ns()
        if self._complained_ns is None or now_ns - self._complained_ns > _COMPLAIN_EVERY_NS:
            self._complained_ns = now_ns
            log.warning("events go without their heavy models: topic %s: %s", self._topic, why)

    def close(self) -> None:
        """What has not left by now concerns nobody any more."""
        self._lifeline.let_go()
        with contextlib.suppress(KafkaException), plain_errors():
            self._producer.purge()
            self._producer.poll(0)
