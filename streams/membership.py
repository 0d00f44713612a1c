"""A consumer's place in its group: partitions come and go, and the place may go to another."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from streams.client import misconfigured
from streams.errors import FencedError
from streams.placement import Placement
from streams.pulse import Pulse

log = logging.getLogger(__name__)

OnPartitions = Callable[[Sequence[TopicPartition]], None]
# Up to so many records, waited for so many seconds.
Fetch = Callable[[int, float], object]

# Three heartbeats.
_DOUBT_S = 1.5
_DOUBT_RECORDS = 1000


class Membership:
    """One consumer of a group, from its subscription on.

    All calls come from the consumer's thread, and the callbacks run on it, within the consumer's
    own calls.

    Args:
        consumer: whose place it is.
        topics: what it subscribes to.
        placement: told which partitions came and went.
        instance: the name of a static member; empty for a dynamic one.
        session_s: after how long without a sign of it the group gives its partitions to others.
        on_assign, on_revoke, on_lost: see `Source`.

    Attributes:
        given_back: partitions that went since this was last cleared.

    Raises:
        ConfigurationError: the client refuses the subscription.
    """

    def __init__(
        self,
        consumer: Consumer,
        topics: Sequence[str],
        placement: Placement,
        *,
        instance: str,
        session_s: float,
        on_assign: OnPartitions | None,
        on_revoke: OnPartitions,
        on_lost: OnPartitions,
    ) -> None:
        self._consumer = consumer
        self._placement = placement
        self._session_s = session_s
        self._on_assign = on_assign
        self._on_revoke = on_revoke
        self._on_lost = on_lost
        self.given_back: set[tuple[str | None, int | None]] = set()
        try:
            consumer.subscribe(
                list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
        except KafkaException as error:
            raise misconfigured(error) from error
        # A dynamic member joins again under another name, and puts nobody out.
        self._pulse = Pulse(session_s, _DOUBT_S) if instance else None

    def listen(self) -> None:
        """To be called before each fetch, within which the group's word comes in."""
        if self._pulse is not None:
            self._pulse.listen()

    def still_ours(self, messages: list[Message]) -> list[Message]:
        """Without those whose partition was given back after they were fetched.

        The next owner, be it this one again, reads them anew.
        """
        if not self.given_back:
            return messages
        return [m for m in messages if (m.topic(), m.partition()) not in self.given_back]

    def require_place(self, fetch: Fetch) -> None:
        """Let a few heartbeats pass, which tell whether another process has this one's place.

        Args:
            fetch: lets the group's word come in; what it returns is thrown away.

        Raises:
            FencedError: another process has it.
            BrokerError: the broker refuses.
        """
        give_up_s = monotonic() + _DOUBT_S
        while monotonic() < give_up_s:
            fetch(_DOUBT_RECORDS, _DOUBT_S / 10)

    def close(self) -> None:
        """To be called once the consumer is closed."""
        if self._pulse is not None:
            self._pulse.close()

    # -- partitions come and go --------------------------------------------------------------

    def _assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._placement.begin((p.topic, p.partition) for p in partitions)
        if self._on_assign is not None:
            self._on_assign(partitions)

    def _revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)
        self._on_revoke(partitions)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("%d partitions were given to somebody else, or to nobody", len(partitions))
        self._forget(partitions)
        self._on_lost(partitions)
        self._leave_if_slept()

    def _forget(self, partitions: list[TopicPartition]) -> None:
        places = [(partition.topic, partition.partition) for partition in partitions]
        self.given_back.update(places)
        self._placement.forget(places)
        # The client would remember the pause if the partition came back.
        with contextlib.suppress(KafkaException):
            self._consumer.resume([TopicPartition(*place) for place in places])

    def _leave_if_slept(self) -> None:
        """Who slept must not put out the process that may have its place by now.

        The client would: it joins again under the same name as soon as its partitions are lost.
        One that merely waited for a broker goes on, as it does if it was fetching meanwhile.

        Raises:
            FencedError: this process stood still for longer than its session.
        """
        if self._pulse is not None and self._pulse.is_in_doubt():
            with contextlib.suppress(KafkaException):  # the client may be fenced by now
                self._consumer.unsubscribe()
            raise FencedError(
                f"stood still for longer than its session of {self._session_s:g} s; another "
                "process may have this slot"
            )
