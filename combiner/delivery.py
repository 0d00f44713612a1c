"""Hands the records of outcomes to a producer, and keeps why one was not delivered."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from combiner.cutting import cut_to
from combiner.outbox_config import OutboxConfig
from combiner.output import Output, Place
from combiner.shipment import Load
from combiner.window import BadRecord
from streams.client import Properties
from streams.errors import BrokerError
from streams.records import Header, dead_letter_headers
from streams.sink import ANY_PARTITION

# A full librdkafka queue empties in milliseconds while the broker is there.
_QUEUE_FULL_WAIT_S = 0.05
_QUEUE_FULL = KafkaError._QUEUE_FULL  # noqa: SLF001 -- the client's own name for it


class Delivery:
    """Of scores, corrections and dead letters, by a producer of its own.

    Args:
        config: which topics.
        properties: the producer's.
        dead_letter_bytes: cut dead letters to this size; None keeps them whole.

    Raises:
        KafkaException: the client does not accept a property.
    """

    def __init__(
        self, config: OutboxConfig, properties: Properties, dead_letter_bytes: int | None
    ) -> None:
        self._config = config
        self._dead_letter_bytes = dead_letter_bytes
        self.undelivered: KafkaError | None = None
        told = {"on_delivery": self._note, "delivery.report.only.error": True}
        self.producer = Producer({**properties, **told})

    def _note(self, error: KafkaError | None, _message: object) -> None:
        # The first one is the reason; those behind it are thrown away with the transaction.
        if error is not None:
            self.undelivered = self.undelivered or error

    @property
    def too_large(self) -> bool:
        """Whether a record was refused for its size."""
        problem = self.undelivered
        return problem is not None and problem.code() == KafkaError.MSG_SIZE_TOO_LARGE

    def hand_over(self, load: Load) -> None:
        """Queue the records of a load, those of each partition in order.

        Raises:
            BrokerError: one is not accepted.
            KafkaException: the client refuses.
        """
        for shipment in load.shipments:
            for output in shipment.outputs:
                if output.headers:
                    self._produce_singly(output)
                else:
                    self._produce_batch(self._config.scored, _messages(output.scored), output)
                self._produce_batch(self._config.corrections, _messages(output.corrections), output)
                for offset, bad in output.dead:
                    self._produce_dead(output.place, offset, bad)

    def _produce_batch(self, topic: str, messages: list[dict[str, Any]], output: Output) -> None:
        while messages:
            self.producer.produce_batch(topic, messages, partition=output.place[1])
            refused = [message for message in messages if "_error" in message]
            if not refused:
                return
            error = refused[0]["_error"]
            if not isinstance(error, KafkaError) or error.code() != _QUEUE_FULL:
                raise BrokerError(f"topic {topic}: {error}")
            messages = [{"key": m["key"], "value": m["value"]} for m in refused]
            self.producer.poll(_QUEUE_FULL_WAIT_S)

    def _produce_singly(self, output: Output) -> None:
        """Batches take no headers; all go this way, so that they stay in order."""
        for place, (key, value) in enumerate(output.scored):
            headers = output.headers.get(place, ())
            self._produce_one(self._config.scored, value, key, headers, partition=output.place[1])

    def _produce_dead(self, place: Place, offset: int, bad: BadRecord) -> None:
        key, value, original = bad.key, bad.value, bad.headers
        cut: list[tuple[str, bytes | None]] = []
        if self._dead_letter_bytes is not None:
            key, value, original, cut = cut_to(bad, self._dead_letter_bytes)
        headers = dead_letter_headers(original, *place, offset, bad.why, self._config.ensemble)
        self._produce_one(self._config.dead_letters, value, key, [*headers, *cut])

    def _produce_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[Header],
        partition: int = ANY_PARTITION,
    ) -> None:
        while True:
            try:
                self.producer.produce(
                    topic, value=value, key=key, headers=list(headers), partition=partition
                )
            except BufferError:
                self.producer.poll(_QUEUE_FULL_WAIT_S)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    self.undelivered = error.args[0]
                raise
            else:
                return


def _messages(records: Sequence[tuple[bytes | None, bytes]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in records]
