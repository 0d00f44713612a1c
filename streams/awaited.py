"""Notices when a consumer waits in vain for its group's committed offsets."""

import logging
from collections.abc import Callable
from time import monotonic

from confluent_kafka import Consumer, KafkaException

from streams.client import translated

log = logging.getLogger(__name__)

# Longer than a transaction of ours may last, with the broker's look at it every ten seconds.
OFFSETS_TIMEOUT_S = 30.0
# To be told that it is so.
REQUEST_TIMEOUT_S = 5.0


class AwaitedOffsets:
    """From the moment that partitions are to be read from what was committed, to their records.

    The client waits for the offsets for ever, and tells nobody, while a transaction that concerns
    them does not end.

    Args:
        consumer: who waits.
        on_held_up: called when there are none for a long time, before that is an error: it may know
            how to end what holds them up.
    """

    def __init__(self, consumer: Consumer, on_held_up: Callable[[], None] | None) -> None:
        self._consumer = consumer
        self._on_held_up = on_held_up
        self._since_s: float | None = None
        self._is_told = False

    def begin(self) -> None:
        """From now on offsets are waited for."""
        self._since_s, self._is_told = monotonic(), False

    def look(self, *, reading: bool) -> None:
        """Find out, where an assignment brings nothing, whether there are offsets at all.

        Args:
            reading: whether records came just now.

        Raises:
            BrokerError: there are none.
        """
        if self._since_s is None:
            return
        if reading:
            self._since_s = None
        elif monotonic() - self._since_s > OFFSETS_TIMEOUT_S:
            self._since_s = None
            try:
                self._consumer.committed(self._consumer.assignment(), REQUEST_TIMEOUT_S)
            except KafkaException as error:
                problem = translated(
                    error, "no committed offsets; a transaction that does not end holds them up?"
                )
                if self._on_held_up is None or self._is_told:
                    raise problem from error
                log.warning("%s", problem)
                self.begin()
                self._is_told = True
                self._on_held_up()
