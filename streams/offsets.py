"""What a broker knows of a consumer's partitions: committed offsets, first and last records."""

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.client import translated
from streams.columns import Place
from streams.errors import BrokerError

# Longer than a broker's restart; beyond it the process starts afresh, with a new connection.
REQUEST_TIMEOUT_S = 10.0


def committed(consumer: Consumer, places: Sequence[Place]) -> list[TopicPartition]:
    """What the consumer's group has committed; a negative offset where that is nothing.

    Raises:
        BrokerError: the broker does not answer.
    """
    wanted = [TopicPartition(*place) for place in places]
    try:
        found = consumer.committed(wanted, REQUEST_TIMEOUT_S)
    except KafkaException as error:
        raise translated(error, "cannot read the committed offsets") from error
    for partition in found:
        if partition.error is not None:
            raise translated(partition.error, "cannot read the committed offsets")
    return found


def watermarks(consumer: Consumer, place: Place) -> tuple[int, int]:
    """The first offset of a partition that exists, and the one its next record will have.

    Raises:
        BrokerError: the broker does not answer.
    """
    try:
        marks = consumer.get_watermark_offsets(TopicPartition(*place), REQUEST_TIMEOUT_S)
    except KafkaException as error:
        raise translated(error, f"no watermark of {place[0]}/{place[1]}") from error
    if marks is None:
        raise BrokerError(f"no watermark of {place[0]}/{place[1]} in {REQUEST_TIMEOUT_S:g} s")
    return int(marks[0]), int(marks[1])
