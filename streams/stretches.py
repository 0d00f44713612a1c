"""Reads given stretches of partitions, each once and to its end; nothing is ever committed."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.client import Watch, is_passing, misconfigured, plain_errors, translated
from streams.consumers import consumer_config
from streams.errors import BrokerError
from streams.offsets import watermarks
from streams.settings import KafkaSettings

Place = tuple[str, int]  # topic, partition
Stretch = tuple[int, int]  # offsets, from and up to

TIMEOUT_S = 10.0
# A broker that restarts is back by then.
_SILENCE_S = 30.0
_FETCH_RECORDS = 5000
_WAIT_S = 0.2
# The client wants a group's name.
_NO_GROUP = "ensemble.reader"


class StretchReader:
    """One consumer without a group; a context manager.

    Raises:
        ConfigurationError: the client does not accept a property.
    """

    def __init__(self, kafka: KafkaSettings, group: str = _NO_GROUP) -> None:
        self._watch = Watch("reading")
        properties = consumer_config(kafka, group)
        properties |= {"error_cb": self._watch.on_error, "enable.partition.eof": True}
        properties["isolation.level"] = "read_committed"
        properties["fetch.wait.max.ms"] = 1  # the end of a partition is an answer too
        try:
            self.consumer = Consumer(properties)
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error
        self._open: dict[Place, Stretch] = {}

    # -- where things are --------------------------------------------------------------------

    def places(self, topics: Iterable[str]) -> list[Place]:
        """All partitions of some topics.

        Raises:
            BrokerError: the broker does not answer, or lacks a topic.
        """
        found: list[Place] = []
        for topic in topics:
            try:
                metadata = self.consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
            except KafkaException as error:
                raise translated(error, f"topic {topic}") from error
            if metadata.error is not None:
                raise BrokerError(f"topic {topic}: {metadata.error.str()}")
            found += [(topic, partition) for partition in sorted(metadata.partitions)]
        return found

    def held(self, place: Place) -> Stretch:
        """The offsets that a partition holds.

        Raises:
            BrokerError: the broker does not answer.
        """
        return watermarks(self.consumer, place)

    def at_time(self, place: Place, time_ms: int) -> int:
        """The first offset whose record has this timestamp or a later one; else the end.

        Raises:
            BrokerError: the broker does not answer.
        """
        try:
            [found] = self.consumer.offsets_for_times(
                [TopicPartition(*place, max(0, time_ms))], TIMEOUT_S
            )
        except KafkaException as error:
            raise translated(error, f"no offset by time of {place[0]}/{place[1]}") from error
        return int(found.offset) if found.offset >= 0 else self.held(place)[1]

    # -- records -----------------------------------------------------------------------------

    def read(
        self, stretches: Mapping[Place, Stretch], stop: threading.Event | None = None
    ) -> Iterator[list[Message]]:
        """The records of all stretches as they come, until `stop`; in order within a partition.

        Only committed records; what belongs to a transaction that is still open, and what lies
        behind it, is not there yet.

        Raises:
            BrokerError: the broker refuses, or says nothing for half a minute.
        """
        self._open = {place: part for place, part in stretches.items() if part[0] < part[1]}
        try:
            partitions = [TopicPartition(*p, part[0]) for p, part in self._open.items()]
            self.consumer.assign(partitions)
            # The client remembers what was held in an earlier reading.
            self.consumer.resume(partitions)
            silent_s = 0.0
            while self._open and not (stop is not None and stop.is_set()):
                self._watch.check()
                with plain_errors():
                    # Asked for many, the client waits for all of them or the timeout: one first.
                    messages = self.consumer.consume(1, _WAIT_S)
                    if messages:
                        messages += self.consumer.consume(_FETCH_RECORDS - 1, 0)
                silent_s = 0.0 if messages else silent_s + _WAIT_S
                if silent_s > _SILENCE_S:
                    raise BrokerError(f"the broker says nothing for {_SILENCE_S:g} s")
                records = [message for message in messages if self._is_wanted(message)]
                if records:
                    yield records
        except KafkaException as error:
            raise translated(error, "cannot read") from error

    def ended(self, place: Place) -> bool:
        """Whether a partition's stretch is read."""
        return place not in self._open

    def hold(self, places: Sequence[Place], *, held: bool) -> None:
        """Fetch nothing more of some partitions, or go on."""
        partitions = [TopicPartition(*place) for place in places if place in self._open]
        if partitions:
            with contextlib.suppress(KafkaException):
                (self.consumer.pause if held else self.consumer.resume)(partitions)

    def _is_wanted(self, message: Message) -> bool:
        place = (str(message.topic()), int(message.partition() or 0))
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the client's own name
                self._end(place)
            elif not is_passing(error):
                raise translated(error, "cannot read")
            return False
        part = self._open.get(place)
        if part is None:
            return False
        offset = int(message.offset() or 0)
        if offset >= part[1] - 1:
            self._end(place)
        return offset < part[1]

    def _end(self, place: Place) -> None:
        if self._open.pop(place, None) is not None:
            # What lies behind is nobody's business, and the others have the room.
            with contextlib.suppress(KafkaException):
                self.consumer.pause([TopicPartition(*place)])

    def close(self) -> None:
        """Leave."""
        self.consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
