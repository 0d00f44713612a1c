"""Where a consumer reads on from: committed offsets, a beginning, or behind what was deleted.

The client is told to fail where it knows no offset, because it would skip what is missing without
a word. It can then not be moved in one partition alone: all are placed anew, each where it was.
"""

import logging
from collections.abc import Callable, Iterable

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.awaited import AwaitedOffsets
from streams.beginnings import Policy, first_start, skip_of
from streams.client import translated
from streams.columns import Place
from streams.errors import BrokerError
from streams.offsets import Meanwhile, committed, watermarks

log = logging.getLogger(__name__)

OnMissing = Callable[[str, int], None]


class Placement:
    """Positions that the client does not know, or forgets.

    Args:
        consumer: whose partitions they are.
        first: the user's `auto.offset.reset`, for partitions of which nothing was committed.
        policy: what to do about records that were deleted before they were read.
        on_missing: called with a topic and the number of those, where the policy is to go on.
        awaited: told when committed offsets are needed.
        meanwhile: called now and then while the broker does not answer.
        incremental: whether the group's protocol gives and takes partitions one by one.
    """

    def __init__(
        self,
        consumer: Consumer,
        first: str,
        policy: Policy,
        on_missing: OnMissing | None,
        awaited: AwaitedOffsets,
        meanwhile: Meanwhile,
        *,
        incremental: bool,
    ) -> None:
        self._consumer = consumer
        self._first = first
        self._policy = policy
        self._on_missing = on_missing
        self._awaited = awaited
        self._meanwhile = meanwhile
        self._incremental = incremental
        # Of partitions that were placed and have brought no record since.
        self._starts: dict[tuple[str | None, int | None], int] = {}
        self._astray: list[Message] = []
        self._holes: dict[Place, int] = {}  # where records were missing

    def astray(self, message: Message) -> None:
        """The client has no position for this message's partition, or one that does not exist."""
        self._astray.append(message)

    def begin(self, places: Iterable[Place]) -> None:
        """These partitions came: their committed offsets count, and are waited for."""
        self._awaited.begin()
        self.forget(places)

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions went."""
        for place in places:
            self._starts.pop(place, None)

    def lead_back(self) -> None:
        """Give partitions that went astray a place to begin.

        Raises:
            MissingRecordsError: records were deleted before they were read, or there is no
                beginning, and the user wants to be told.
            BrokerError: the broker does not answer, or the client refuses.
        """
        astray, self._astray = [m for m in self._astray if not self._is_placed(m)], []
        if not astray:
            return
        for message in astray:
            self._starts[(message.topic(), message.partition())] = self._start_of(message)
        self._place_others_without_offset()
        try:
            places = self._consumer.position(self._consumer.assignment())
            # A partition without any commit that has brought records since is astray no more.
            gone = {(m.topic(), m.partition()) for m in astray if (m.offset() or -1) > 0}
            for place in places:
                key = (place.topic, place.partition)
                if place.offset == OFFSET_INVALID or key in gone:
                    place.offset = self._starts.get(key, OFFSET_INVALID)
                elif place.offset >= 0:
                    # The client forgets a position that is set, until its next record.
                    self._starts[key] = place.offset
            self._place(places)
        except KafkaException as error:
            raise translated(error, "cannot begin to read") from error

    def _is_placed(self, message: Message) -> bool:
        """Whether the client complains of having had no offset when it has one by now."""
        has_none = (message.offset() or -1) < 0
        return has_none and (message.topic(), message.partition()) in self._starts

    def _place_others_without_offset(self) -> None:
        """Whoever is placed several times in a row is asked for its place several times as well."""
        owned = [(p.topic, p.partition) for p in self._consumer.assignment()]
        places = [place for place in owned if place not in self._starts]
        try:
            known = committed(self._consumer, places, self._meanwhile) if places else []
        except BrokerError as error:
            log.debug("the client will ask for the others itself: %s", error)
            return
        for each in known:
            if each.offset < 0:
                self._starts[(each.topic, each.partition)] = self._beginning(each)

    def _beginning(self, place: TopicPartition) -> int:
        end = first_start(f"{place.topic}/{place.partition}", self._first)
        return OFFSET_END if end == "end" else OFFSET_BEGINNING

    def back_to_committed(self, owned: list[TopicPartition]) -> None:
        """Read these, which are all that is owned, from what was committed.

        A new assignment without offsets drops what was fetched under the old one.

        Raises:
            BrokerError: the client refuses.
        """
        self._starts.clear()
        self._awaited.begin()
        try:
            self._place(owned)
        except KafkaException as error:
            raise translated(error, "cannot go back to the committed offsets") from error

    def _place(self, owned: list[TopicPartition]) -> None:
        if self._incremental:
            self._consumer.incremental_unassign(owned)
            self._consumer.incremental_assign(owned)
        else:
            self._consumer.assign(owned)

    def _start_of(self, message: Message) -> int:
        """Where to go on with a partition whose position does not exist."""
        topic, partition, wanted = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        where = f"{topic}/{partition}"
        if wanted is None or wanted < 0:
            # What the client says may be older than the first commit.
            (known,) = committed(self._consumer, [(topic, partition)], self._meanwhile)
            if known.offset >= 0:
                return int(known.offset)
            return self._beginning(known)
        low, high = watermarks(self._consumer, (topic, partition), self._meanwhile)
        skip = skip_of(where, wanted, low, high, self._policy)
        # The same hole is met again when partitions move before anything behind it is committed.
        if self._holes.get((topic, partition)) != wanted:
            self._holes[(topic, partition)] = wanted
            log.error("%s", skip.problem)
            if self._on_missing is not None:
                self._on_missing(topic, skip.missing)
        return skip.start
