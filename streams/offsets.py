"""What a broker knows of a consumer's partitions: committed offsets, first and last records."""

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.client import is_passing, translated
from streams.columns import Place

# Longer than a broker's restart; beyond it the process starts afresh, with a new connection.
REQUEST_TIMEOUT_S = 10.0
# A broker that has just become the leader does not know yet how far its partition is settled. One
# that has just come back, or a transaction under way, holds offsets back. A client that has lost
# its brokers knows no partitions; one of whose brokers is gone forgets what it asked that.
_NOT_YET = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 -- the client's own name
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 -- the client's own name
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)
_ASK_AGAIN_S = 0.1
# Of one request; a client that has lost its brokers can be told of them between two.
_PATIENCE_S = 3.0

Meanwhile = Callable[[], None]
Answer = TypeVar("Answer")


def committed(
    consumer: Consumer, places: Sequence[Place], meanwhile: Meanwhile = lambda: None
) -> list[TopicPartition]:
    """What the consumer's group has committed; a negative offset where that is nothing.

    Args:
        consumer: who asks.
        places: partitions.
        meanwhile: called between two requests, if it takes several.

    Raises:
        BrokerError: the broker does not answer.
    """
    wanted = [TopicPartition(*place) for place in places]

    def ask(timeout_s: float) -> list[TopicPartition]:
        found = consumer.committed(wanted, timeout_s)
        for partition in found:
            if partition.error is not None:
                raise KafkaException(partition.error)
        return found

    try:
        return _answered(ask, meanwhile)
    except KafkaException as error:
        raise translated(error, "cannot read the committed offsets") from error


def watermarks(
    consumer: Consumer, place: Place, meanwhile: Meanwhile = lambda: None
) -> tuple[int, int]:
    """The first offset of a partition that exists, and the one its next record will have.

    Args:
        consumer: who asks.
        place: a partition.
        meanwhile: called between two requests, if it takes several.

    Raises:
        BrokerError: the broker does not answer, or does not know for as long.
    """

    def ask(timeout_s: float) -> tuple[int, int]:
        marks = consumer.get_watermark_offsets(TopicPartition(*place), timeout_s)
        if marks is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))  # noqa: SLF001
        return int(marks[0]), int(marks[1])

    try:
        return _answered(ask, meanwhile)
    except KafkaException as error:
        raise translated(error, f"no watermark of {place[0]}/{place[1]}") from error


def _answered(ask: Callable[[float], Answer], meanwhile: Meanwhile) -> Answer:
    """Ask until there is an answer, or a refusal that holds."""
    give_up_s = monotonic() + REQUEST_TIMEOUT_S
    while True:
        left_s = give_up_s - monotonic()
        try:
            return ask(max(min(left_s, _PATIENCE_S), _ASK_AGAIN_S))
        except KafkaException as error:
            problem = error.args[0]
            passes = is_passing(problem) or problem.code() in _NOT_YET
            if not passes or left_s <= _ASK_AGAIN_S:
                raise
        meanwhile()
        sleep(_ASK_AGAIN_S)
