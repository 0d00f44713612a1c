"""The door through which records come in: one consumer of one group."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.client import (
    Properties,
    Watch,
    is_passing,
    misconfigured,
    shared_properties,
    translated,
    user_properties,
)
from streams.errors import BrokerError
from streams.settings import KafkaSettings

log = logging.getLogger(__name__)

Place = tuple[str, int]
OnPartitions = Callable[[Sequence[TopicPartition]], None]

# Longer than a broker's restart; beyond it the process starts afresh, with a new connection.
REQUEST_TIMEOUT_S = 10.0

_DEFAULTS: Properties = {
    # Static membership gives partitions back within 0.2 s of a crash with the classic protocol,
    # and after a minute with the new one.
    "group.protocol": "classic",
    # Joins need equal partition numbers of all topics in one process.
    "partition.assignment.strategy": "range",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    # A lone record is handed over at once; an idle broker is asked ten times a second.
    "fetch.wait.max.ms": 100,
    "fetch.min.bytes": 1,
    # A full queue is looked at again while there is still something in it: the default second
    # would let a fast reader run dry.
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 50,
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 65_536,
}
# What the new group protocol leaves to the broker, and objects to.
_CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")


def consumer_config(kafka: KafkaSettings, group: str, instance: str = "") -> Properties:
    """Librdkafka properties of a consumer.

    Args:
        kafka: the cluster, and the user's properties, which win over ours.
        group: the consumer group.
        instance: a name that stays over restarts makes a static member; empty a dynamic one.

    Raises:
        ConfigurationError: a property is reserved, or its file cannot be read.
    """
    user = user_properties(kafka.consumer, "kafka.consumer")
    properties = {**_DEFAULTS, **shared_properties(kafka), **user}
    if properties["group.protocol"] == "consumer":
        for name in _CLASSIC_ONLY:
            if name not in kafka.consumer and name not in kafka.properties:
                del properties[name]
        properties.setdefault("group.remote.assignor", "range")
    properties |= {"group.id": group, "enable.auto.commit": False}
    if instance:
        properties["group.instance.id"] = instance
    return properties


class Source:
    """A subscription: records in, positions out.

    All calls come from one thread, and the callbacks run within `fetch` and `close` on that
    thread. A partition that is assigned is never paused.

    Args:
        kafka: the cluster.
        group: the consumer group.
        topics: what to subscribe to; all of them must exist.
        instance: see `consumer_config`.
        on_assign: called with partitions that are now this consumer's.
        on_revoke: called with partitions that are its no longer; they may still be committed,
            which the broker refuses if they were lost rather than given back.

    Raises:
        ConfigurationError: the client does not accept a property.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        instance: str = "",
        on_assign: OnPartitions | None = None,
        on_revoke: OnPartitions | None = None,
    ) -> None:
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._given_back: set[tuple[str | None, int | None]] = set()
        self._watch = Watch(f"consumer group {group}")
        properties = consumer_config(kafka, group, instance)
        properties |= {"error_cb": self._watch.on_error, "on_commit": self._committed}
        try:
            self.consumer = Consumer(properties)
            self.consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked)
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error

    # -- records -----------------------------------------------------------------------------

    def fetch(self, max_records: int, timeout_s: float) -> list[Message]:
        """Up to `max_records` that are there; waits up to `timeout_s` seconds for the first.

        Raises:
            BrokerError: the broker refuses, or lacks a topic.
            FencedError: another process has this one's place in the group.
        """
        self._watch.check()
        try:
            # Asked for many, the client waits for all of them or the timeout: one first.
            messages = self.consumer.consume(1, timeout_s)
            if messages and max_records > 1:
                self._given_back.clear()
                more = self.consumer.consume(max_records - 1, 0)
                messages = self._still_ours(messages) + more
        except KafkaException as error:
            raise translated(error, "cannot fetch") from error
        if any(message.error() is not None for message in messages):
            return [message for message in messages if self._is_record(message)]
        return messages

    def _still_ours(self, messages: list[Message]) -> list[Message]:
        """Without those whose partition was given back by the call that came after them.

        The next owner, be it this one again, reads them anew.
        """
        if not self._given_back:
            return messages
        return [m for m in messages if (m.topic(), m.partition()) not in self._given_back]

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if not is_passing(error):
            # A topic that does not exist is the usual one, and named in the text.
            raise translated(error, "cannot fetch")
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the client's own name
            log.warning("fetching: %s", error.str())
        return False

    def pause(self, places: Iterable[Place]) -> None:
        """Fetch nothing from these partitions until `resume`; those not owned are ignored."""
        with contextlib.suppress(KafkaException):
            self.consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Iterable[Place]) -> None:
        """Undo `pause`; partitions not owned are ignored."""
        with contextlib.suppress(KafkaException):
            self.consumer.resume([TopicPartition(*place) for place in places])

    # -- positions ---------------------------------------------------------------------------

    def commit(self, positions: Mapping[Place, int], *, asynchronous: bool = True) -> None:
        """Commit, for each partition, the offset of the next record to read.

        An asynchronous commit that fails is logged, and raised by `fetch` if it means that this
        process was replaced.

        Raises:
            BrokerError: a synchronous commit was refused or not answered.
            FencedError: another process has this one's place in the group.
        """
        if not positions:
            return
        offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
        try:
            if asynchronous:
                self.consumer.commit(offsets=offsets, asynchronous=True)
                return
            done = self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise translated(error, "cannot commit") from error
        for partition in done or ():
            if partition.error is not None:
                raise translated(partition.error, "cannot commit")

    def _committed(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        if error is not None:
            self._watch.on_error(error)

    def high_watermark(self, place: Place) -> int:
        """The offset that the next record written to a partition will have.

        Raises:
            BrokerError: the broker does not answer.
        """
        try:
            marks = self.consumer.get_watermark_offsets(TopicPartition(*place), REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise translated(error, f"no watermark of {place[0]}/{place[1]}") from error
        if marks is None:
            raise BrokerError(f"no watermark of {place[0]}/{place[1]} in {REQUEST_TIMEOUT_S:g} s")
        return int(marks[1])

    def seek_to_committed(self) -> None:
        """Read all assigned partitions again from what was committed; none is paused then.

        Raises:
            BrokerError: the client refuses.
        """
        try:
            owned = [TopicPartition(p.topic, p.partition) for p in self.consumer.assignment()]
            self.consumer.resume(owned)
            # A new assignment without offsets starts from the committed ones, and drops what was
            # fetched under the old one.
            self.consumer.assign(owned)
        except KafkaException as error:
            raise translated(error, "cannot go back to the committed offsets") from error

    # -- partitions come and go --------------------------------------------------------------

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._on_assign is not None:
            self._on_assign(partitions)

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(partition.topic, partition.partition) for partition in partitions]
        self._given_back.update(places)
        # The client would remember the pause if the partition came back.
        self.resume(places)
        if self._on_revoke is not None:
            self._on_revoke(partitions)

    def close(self) -> None:
        """Give the partitions back (`on_revoke`) and leave the group.

        A static member keeps them until its session ends, so that its restart moves nothing.
        """
        try:
            self.consumer.close()
        except KafkaException as error:
            log.warning("leaving the group: %s", error)
