"""The door through which records go out: one producer."""

import logging
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams.admin import TopicAdmin
from streams.client import (
    Properties,
    Watch,
    cluster_metadata,
    misconfigured,
    plain_errors,
    shared_properties,
    translated,
    user_properties,
)
from streams.errors import BrokerError
from streams.lifeline import Lifeline
from streams.records import Header
from streams.settings import KafkaSettings

log = logging.getLogger(__name__)

ANY_PARTITION = -1
# How long a full queue may stay full before it counts as a broker that does not answer.
QUEUE_FULL_TIMEOUT_S = 30.0
_QUEUE_FULL_WAIT_S = 0.05
# A broker that has just started, or one of several, hears of a topic that was made a little later.
_HEARSAY_S = 3.0
_LOOK_AGAIN_S = 0.1
_QUEUE_FULL = KafkaError._QUEUE_FULL  # noqa: SLF001 -- the client's own name for it

_DEFAULTS: Properties = {
    "enable.idempotence": True,
    "acks": "all",
    # What is produced together comes in batches already; to wait for more is pure latency. What
    # comes while a request is under way leaves with the next one all the same.
    "linger.ms": 0,
    # A retry, and the steps of a transaction, wait this long and not the default 100 ms.
    "retry.backoff.ms": 2,
    "retry.backoff.max.ms": 100,
    # A topic that does not exist is an error after this time and not after the default 30 s.
    "topic.metadata.propagation.max.ms": 5_000,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 524_288,
}


def producer_config(kafka: KafkaSettings) -> Properties:
    """Librdkafka properties of a producer; the user's win over ours.

    Raises:
        ConfigurationError: a property is reserved, or its file cannot be read.
    """
    user = user_properties(kafka.producer, "kafka.producer")
    return {**_DEFAULTS, **shared_properties(kafka), **user}


class Sink:
    """Produces records; what was not delivered is raised by the next call.

    May be used by several threads. Acknowledgements are handed out within the calls of `Sink`, on
    whichever thread makes one: somebody has to `poll`.

    Raises:
        ConfigurationError: the client does not accept a property.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._watch = Watch("producer")
        self._topic = ""  # one of those it writes to
        try:
            self._producer = Producer({**producer_config(kafka), "error_cb": self._watch.on_error})
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error
        self._lifeline = Lifeline(
            kafka,
            self._producer,
            lambda wait_s: self._topic and self._producer.list_topics(self._topic, wait_s),
            self._watch.fail,
        )

    def partition_counts(self, names: Sequence[str]) -> dict[str, int]:
        """How many partitions these topics have.

        Raises:
            BrokerError: the broker does not answer, or lacks one of them and goes on to.
            AccessError: it does not let this client in, or not see one of them.
        """
        give_up_s = monotonic() + _HEARSAY_S
        while True:
            found = cluster_metadata(self._producer, self._watch, self._kafka).topics
            missing = [name for name in names if name not in found]
            if not missing or monotonic() > give_up_s:
                break
            sleep(_LOOK_AGAIN_S)
        if missing:
            # Topics that this client may not see are left out of the list without a word.
            TopicAdmin(self._kafka).require_access(missing)
            raise BrokerError(
                f"topic {missing[0]} does not exist; make it with `ensemble topics create`"
            )
        self._topic = names[0] if names else self._topic
        return {name: len(found[name].partitions) for name in names}

    def require_partitions(
        self, topic: str, *, same: Sequence[str], others: Sequence[str] = ()
    ) -> dict[str, int]:
        """Make sure that topics exist, and that those of `same` have as many partitions as `topic`.

        What belongs to an event goes to the partition of the event's number. Returns how many
        partitions each topic has.

        Raises:
            BrokerError: a topic is missing, or has another number of partitions.
        """
        counts = self.partition_counts([topic, *same, *others])
        for name in same:
            if counts[name] != counts[topic]:
                raise BrokerError(
                    f"topic {name} has {counts[name]} partitions and {topic} has "
                    f"{counts[topic]}; expected equal numbers"
                )
        return counts

    def produce(
        self,
        topic: str,
        *,
        value: bytes | None,
        key: bytes | None = None,
        partition: int = ANY_PARTITION,
        headers: Sequence[Header] = (),
        on_delivered: Callable[[], None] | None = None,
    ) -> None:
        """Queue one record; `on_delivered` is called once the broker has it.

        Waits only while the queue is full.

        Raises:
            BrokerError: an earlier record was not delivered, or this one is not accepted.
        """

        def deliver(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                self._undelivered(error, topic)
            elif on_delivered is not None:
                on_delivered()

        self._topic = topic
        give_up_s = monotonic() + QUEUE_FULL_TIMEOUT_S
        while True:
            self._watch.check()
            try:
                self._producer.produce(
                    topic,
                    value=value,
                    key=key,
                    partition=partition,
                    headers=list(headers),
                    on_delivery=deliver,
                )
            except BufferError:
                self._wait_for_room(give_up_s)
            except KafkaException as error:
                raise translated(error, f"topic {topic}") from error
            else:
                return

    def produce_batch(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None]]
    ) -> None:
        """Queue (key, value) records for one partition, several times as fast as one by one.

        Raises:
            BrokerError: an earlier record was not delivered, or one of these is not accepted.
        """

        def deliver(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                self._undelivered(error, topic)

        self._topic = topic
        give_up_s = monotonic() + QUEUE_FULL_TIMEOUT_S
        waiting: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in records]
        while waiting:
            self._watch.check()
            self._producer.produce_batch(topic, waiting, partition=partition, on_delivery=deliver)
            refused = [message for message in waiting if "_error" in message]
            for message in refused:
                error = message.pop("_error")
                if error.code() != _QUEUE_FULL:
                    raise translated(error, f"topic {topic}")
            if refused:
                self._wait_for_room(give_up_s)
            waiting = refused

    def _wait_for_room(self, give_up_s: float) -> None:
        if monotonic() > give_up_s:
            raise BrokerError(f"the broker took nothing for {QUEUE_FULL_TIMEOUT_S:g} s")
        self.poll(_QUEUE_FULL_WAIT_S)

    def _undelivered(self, error: KafkaError, topic: str) -> None:
        self._watch.fail(translated(error, f"topic {topic}: a record was not delivered"))

    def poll(self, timeout_s: float = 0.0) -> None:
        """Hand out acknowledgements, waiting up to `timeout_s` seconds for the first.

        Raises:
            BrokerError: a record was not delivered.
        """
        try:
            with plain_errors():
                self._producer.poll(timeout_s)
        except KafkaException as error:
            raise translated(error, "cannot produce") from error
        self._watch.check()

    def flush(self, timeout_s: float) -> None:
        """Wait until the broker has everything.

        Raises:
            BrokerError: a record was not delivered, or not within `timeout_s` seconds.
        """
        try:
            with plain_errors():
                left = self._producer.flush(timeout_s)
        except KafkaException as error:
            raise translated(error, "cannot produce") from error
        self._watch.check()
        if left:
            raise BrokerError(f"{left} records not acknowledged within {timeout_s:g} s")

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what waits, for at most `timeout_s` seconds, and log what was lost."""
        self._lifeline.let_go()
        try:
            self.flush(timeout_s)
        except BrokerError as error:
            log.warning("closing the producer: %s", error)
