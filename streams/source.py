"""The door through which records come in: one consumer of one group."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.awaited import AwaitedOffsets
from streams.client import (
    Watch,
    is_passing,
    misconfigured,
    plain_errors,
    translated,
)
from streams.columns import Place, Position
from streams.consumers import DEFAULT_PACE_MS, consumer_config, session_s
from streams.errors import BrokerError
from streams.lifeline import ConsumersLifeline
from streams.membership import Membership, OnPartitions
from streams.offsets import committed, watermarks
from streams.outages import Outage
from streams.placement import OnMissing, Placement
from streams.settings import KafkaSettings
from streams.unconfirmed import Unconfirmed

log = logging.getLogger(__name__)

# Clients without brokers. To close or to destroy one would mean to wait, for minutes, for the
# answer to a commit that it cannot send.
_CUT_OFF: list[Consumer] = []


class Source:
    """A subscription: records in, positions out.

    All calls come from one thread, and the callbacks run within `fetch` and `close` on that
    thread. A partition that is assigned is never paused.

    Args:
        kafka: the cluster.
        group: the consumer group.
        topics: what to subscribe to; all of them must exist.
        instance, pace_ms: see `consumer_config`.
        on_assign: called with partitions that are now this consumer's.
        on_revoke: called with partitions that are given back; they may still be committed.
        on_lost: called with partitions that belong to somebody else already, after the group had
            not heard of this consumer for too long; nothing of them can be committed. A static
            member that stood still for so long leaves instead, with FencedError.
        on_away: called within `fetch` when no broker answers any more.
        on_missing: called with a topic and the number of its records that were deleted before
            they were read, where the settings say to go on.
        on_held_up: called within `fetch` when there are no committed offsets for a long time,
            before that is an error: it may know how to end what holds them up.

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
        pace_ms: int = DEFAULT_PACE_MS,
        on_assign: OnPartitions | None = None,
        on_revoke: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
        on_away: Callable[[], None] = lambda: None,
        on_missing: OnMissing | None = None,
        on_held_up: Callable[[], None] | None = None,
    ) -> None:
        self._told_away = on_away
        self._unconfirmed = Unconfirmed()
        self._outage = Outage()
        self._watch = Watch(f"consumer group {group}", on_away=self._on_away)
        properties = consumer_config(kafka, group, instance, pace_ms)
        properties |= {"error_cb": self._watch.on_error, "on_commit": self._committed}
        incremental = properties["group.protocol"] == "consumer"
        # The client would skip what is missing without a word.
        first = str(properties.pop("auto.offset.reset"))
        properties["auto.offset.reset"] = "error"
        try:
            self.consumer = Consumer(properties)
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error
        self._awaited = AwaitedOffsets(self.consumer, on_held_up)
        self._placement = Placement(
            self.consumer,
            first,
            kafka.on_missing_offsets,
            on_missing,
            self._awaited,
            self._meanwhile,
            incremental=incremental,
        )
        self._membership = Membership(
            self.consumer,
            topics,
            self._placement,
            instance=instance,
            session_s=session_s(properties),
            on_assign=on_assign,
            on_revoke=self._forgetting(on_revoke),
            on_lost=self._forgetting(on_lost or on_revoke),
        )
        self._lifeline = ConsumersLifeline(kafka, self.consumer, topics[0], self._cut_off)

    # -- records -----------------------------------------------------------------------------

    def fetch(self, max_records: int, timeout_s: float) -> list[Message]:
        """Up to `max_records` that are there; waits up to `timeout_s` seconds for the first.

        Raises:
            BrokerError: the broker refuses, or lacks a topic.
            FencedError: another process has this one's place in the group.
            MissingRecordsError: records were deleted before they were read.
        """
        self._watch.check()
        self._membership.listen()
        try:
            with plain_errors():
                # Asked for many, the client waits for all of them or the timeout: one first.
                messages = self.consumer.consume(1, timeout_s)
                if messages and max_records > 1:
                    self._membership.given_back.clear()
                    more = self.consumer.consume(max_records - 1, 0)
                    messages = self._membership.still_ours(messages) + more
        except KafkaException as error:
            raise translated(error, "cannot fetch") from error
        self._lifeline.serve(heard=bool(messages))
        self._awaited.look(reading=bool(messages))
        if any(message.error() is not None for message in messages):
            messages = [message for message in messages if self._is_record(message)]
            self._placement.lead_back()
        return messages

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 -- the client's own name
            self._placement.astray(message)
            return False
        if not is_passing(error):
            # A topic that does not exist is the usual one, and named in the text.
            raise self._watch.explained(error, "cannot fetch")
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 -- the client's own name
            log.warning("fetching: %s", error.str())
        return False

    # -- back-pressure -----------------------------------------------------------------------

    def pause(self, places: Iterable[Place]) -> None:
        """Fetch nothing from these partitions until `resume`; those not owned are ignored."""
        with contextlib.suppress(KafkaException):
            self.consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Iterable[Place]) -> None:
        """Undo `pause`; partitions not owned are ignored."""
        with contextlib.suppress(KafkaException):
            self.consumer.resume([TopicPartition(*place) for place in places])

    # -- positions ---------------------------------------------------------------------------

    def commit(
        self, positions: Mapping[Place, int | Position], *, asynchronous: bool = True
    ) -> None:
        """Commit, for each partition, the offset of the next record to read; and a text beside it.

        An asynchronous commit that fails is logged, and made again with the next call, as is one
        without an answer; it is raised by `fetch` if it means that this process was replaced. A
        synchronous one waits for those before it, too.

        Raises:
            BrokerError: a synchronous commit was refused or not answered.
            FencedError: another process has this one's place in the group.
        """
        wanted = {place: _position(position) for place, position in positions.items()}
        ask = self._unconfirmed.add if asynchronous else self._unconfirmed.add_all
        asked = ask(wanted, time.monotonic())
        if not asked:
            return
        offsets = [committable(place, position) for place, position in asked.items()]
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
        for place, position in asked.items():
            self._unconfirmed.confirm(place, position)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None:
            self._watch.on_error(error)
        for p in partitions:
            if error is None and p.error is None:
                position = Position(p.offset, p.metadata or "")
                self._unconfirmed.confirm((p.topic, p.partition), position)
            else:
                self._unconfirmed.refuse((p.topic, p.partition))

    def committed(self, places: Sequence[Place]) -> dict[Place, Position]:
        """What the group has committed; offset 0 where that is nothing.

        Once records of a partition came, this is what reading them began with, until the next
        commit: the client itself waits for what is inside an open transaction.

        Raises:
            BrokerError: the broker does not answer.
        """
        found = committed(self.consumer, places, self._meanwhile)
        return {(p.topic, p.partition): Position(max(0, p.offset), p.metadata or "") for p in found}

    def high_watermark(self, place: Place) -> int:
        """The offset that the next record written to a partition will have.

        Raises:
            BrokerError: the broker does not answer.
        """
        return watermarks(self.consumer, place, self._meanwhile)[1]

    def piled_up(self, place: Place, last_offset: int) -> int:
        """The offset below which events piled up while no broker answered; 0 if none did.

        Args:
            place: a partition of which records were fetched just now.
            last_offset: of the last of them.
        """
        return self._outage.piled_up(place, last_offset + 1, self.known_end(place))

    def _forgetting(self, told: OnPartitions | None) -> OnPartitions:
        def forget(partitions: Sequence[TopicPartition]) -> None:
            if told is not None:
                told(partitions)  # who gives partitions back may commit them before
            self._unconfirmed.forget((p.topic, p.partition) for p in partitions)

        return forget

    def _on_away(self) -> None:
        self._told_away()
        with contextlib.suppress(KafkaException):
            self._outage.begin((p.topic, p.partition) for p in self.consumer.assignment())

    def known_end(self, place: Place) -> int:
        """As `high_watermark`, but as of the last fetch; 0 before the first one."""
        with contextlib.suppress(KafkaException):
            marks = self.consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            return max(0, int(marks[1]))
        return 0

    def seek_to_committed(self) -> None:
        """Read all assigned partitions again from what was committed; none is paused then.

        Raises:
            BrokerError: the client refuses.
        """
        owned = [TopicPartition(p.topic, p.partition) for p in self.consumer.assignment()]
        self._unconfirmed.forget((p.topic, p.partition) for p in owned)
        self.resume((p.topic, p.partition) for p in owned)
        self._placement.back_to_committed(owned)

    def require_place(self) -> None:
        """Let a few heartbeats pass, which tell whether another process has this one's place.

        What comes in meanwhile is thrown away: to be called before `seek_to_committed`.

        Raises:
            FencedError: another process has it.
            BrokerError: the broker refuses.
        """
        self._membership.require_place(self.fetch)

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the partitions back (`on_revoke`) and leave the group.

        A static member keeps them until its session ends, so that its restart moves nothing. A
        client that has lost its brokers can tell nobody, and is left as it is.
        """
        self._lifeline.close()
        try:
            if self.consumer not in _CUT_OFF:
                with plain_errors():
                    self.consumer.close()
        except KafkaException as error:
            log.warning("leaving the group: %s", error)
        finally:
            self._membership.close()

    def _meanwhile(self) -> None:
        """The consumer may wait because it has lost its brokers, and is told of them here."""
        self._lifeline.serve(heard=False)

    def _cut_off(self, problem: BrokerError) -> None:
        _CUT_OFF.append(self.consumer)
        self._watch.fail(problem)


def committable(place: Place, position: int | Position) -> TopicPartition:
    """A position as the client takes it."""
    position = _position(position)
    return TopicPartition(*place, position.offset, position.metadata)


def _position(position: int | Position) -> Position:
    return position if isinstance(position, Position) else Position(position)
