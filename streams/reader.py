"""Reads a topic from one end to the other without a group: for people and tools that look."""

import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.client import (
    ANSWER_TIMEOUT_S,
    Watch,
    is_passing,
    misconfigured,
    plain_errors,
    translated,
)
from streams.consumers import consumer_config
from streams.errors import BrokerError
from streams.lifeline import ConsumersLifeline
from streams.settings import KafkaSettings

TIMEOUT_S = 10.0
_FETCH_RECORDS = 500
# How long a wait for records lasts before the reader looks whether it should stop.
_WAIT_S = 0.2
# The client wants a group's name; nothing is ever committed under it.
_NO_GROUP = "ensemble.reader"

Start = Literal["beginning", "end"]


def require_readable(kafka: KafkaSettings, topic: str, group: str) -> None:
    """Make sure that this client may read a topic as a member of a group.

    Faust's client would try again for ever, and tell nobody.

    Raises:
        AccessError: it may not.
        BrokerError: the broker refuses for another reason.
        ConfigurationError: the client does not accept a property.
    """
    watch = Watch(f"topic {topic}")
    properties = consumer_config(kafka, group)
    properties |= {"error_cb": watch.on_error, "enable.partition.eof": True}
    properties["fetch.wait.max.ms"] = 1  # the end of the topic is an answer too
    try:
        consumer = Consumer(properties)
    except (KafkaException, ValueError, TypeError) as error:
        raise misconfigured(error) from error
    try:
        # Without it the client looks for the topic's leader a whole second later.
        consumer.list_topics(topic, ANSWER_TIMEOUT_S)
        consumer.assign([TopicPartition(topic, 0, OFFSET_END)])
        refusal = _first_answer(consumer)
        if refusal.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- its own name
            consumer.committed([TopicPartition(topic, 0)], timeout=ANSWER_TIMEOUT_S)
    except KafkaException as error:
        # Why a request was not answered is told beside it.
        told = consumer.poll(0)
        refusal = error.args[0] if told is None else told.error() or error.args[0]
    finally:
        consumer.close()
    watch.check()
    # Whatever passes is met again by whoever reads.
    if not is_passing(refusal):
        raise translated(refusal, f"topic {topic} cannot be read by group {group}")


def _first_answer(consumer: Consumer) -> KafkaError:
    """What a consumer hears that stands at the end of a topic; the end itself is an answer too.

    Raises:
        KafkaException: nothing.
    """
    message = consumer.poll(ANSWER_TIMEOUT_S)
    while message is not None and message.error() is None:  # written meanwhile
        message = consumer.poll(ANSWER_TIMEOUT_S)
    if message is None or (error := message.error()) is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))  # noqa: SLF001
    return error


class TopicReader:
    """All partitions of a topic, from now on or from the start; a context manager.

    Only committed records are read. Partitions are interleaved as they come.

    Raises:
        BrokerError: the topic does not exist, or the broker does not answer.
        ConfigurationError: the client does not accept a property.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, start: Start) -> None:
        self._watch = Watch(f"topic {topic}")
        properties = consumer_config(kafka, _NO_GROUP)
        properties |= {"error_cb": self._watch.on_error, "enable.partition.eof": True}
        try:
            self._consumer = Consumer(properties)
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error
        self._lifeline = ConsumersLifeline(kafka, self._consumer, topic, self._watch.fail)
        self._open = self._assign(topic, OFFSET_BEGINNING if start == "beginning" else OFFSET_END)

    def _assign(self, topic: str, offset: int) -> set[int]:
        try:
            found = self._consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
            if found.error is not None:
                raise BrokerError(f"topic {topic}: {found.error.str()}")
            partitions = set(found.partitions)
            self._consumer.assign([TopicPartition(topic, p, offset) for p in partitions])
        except KafkaException as error:
            raise translated(error, f"topic {topic} cannot be read") from error
        return partitions

    def batches(self, stop: threading.Event, *, follow: bool) -> Iterator[Sequence[Message]]:
        """Records as they come, until `stop`; without `follow` until the end of all partitions.

        Raises:
            BrokerError: the broker refuses, or does not answer while there is something to read.
        """
        while not stop.is_set() and (follow or self._open):
            self._watch.check()
            messages = self._fetch()
            self._lifeline.serve(heard=bool(messages))
            records = [message for message in messages if self._is_record(message)]
            if records:
                yield records

    def _fetch(self) -> list[Message]:
        try:
            with plain_errors():
                # Asked for many, the client waits for all of them or the timeout: one first.
                messages = self._consumer.consume(1, _WAIT_S)
                if messages:
                    messages += self._consumer.consume(_FETCH_RECORDS - 1, 0)
        except KafkaException as error:
            raise translated(error, "cannot read") from error
        return messages

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the client's own name
            partition = message.partition()
            assert partition is not None, "the end of no partition"
            self._open.discard(partition)
        elif not is_passing(error):
            raise translated(error, "cannot read")
        return False

    def close(self) -> None:
        """Leave."""
        self._lifeline.close()
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
