"""What a broker knows of a consumer's partitions: committed offsets, first and last records."""

from collections.abc import Sequence
from time import monotonic, sleep

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.client import translated
from streams.columns import Place
from streams.errors import BrokerError

# Longer than a broker's restart; beyond it the process starts afresh, with a new connection.
REQUEST_TIMEOUT_S = 10.0
# A broker that has just become the leader does not know yet how far its partition is settled.
_NOT_YET = frozenset(
    {
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
_ASK_AGAIN_S = 0.1


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
        BrokerError: the broker does not answer, or does not know for as long.
    """
    give_up_s = monotonic() + REQUEST_TIMEOUT_S
    while True:
        left_s = give_up_s - monotonic()
        try:
            marks = consumer.get_watermark_offsets(
                TopicPartition(*place), max(left_s, _ASK_AGAIN_S)
            )
        except KafkaException as error:
            if error.args[0].code() not in _NOT_YET or left_s <= _ASK_AGAIN_S:
                raise translated(error, f"no watermark of {place[0]}/{place[1]}") from error
            sleep(_ASK_AGAIN_S)
        else:
            if marks is None:
                raise BrokerError(
                    f"no watermark of {place[0]}/{place[1]} in {REQUEST_TIMEOUT_S:g} s"
                )
            return int(marks[0]), int(marks[1])
