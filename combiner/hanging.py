"""Gives up what earlier producers of one transactional id may have left open.

A lone broker that was killed leads its partitions twice in a row when it starts. If its transaction
coordinator ends a transaction in between, it finds no leader, takes the partitions for deleted, and
writes none of the markers. The records then hang in their partitions, and the group's offsets with
them: nobody reads past them, and the next commit of the same producer counts for them, too, though
their events may have been decided again since.
"""

from collections.abc import Sequence

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.errors import BrokerError


def outsider(group: str) -> object:
    """Metadata of a group, of nobody in it.

    A transaction takes in offsets of a group for a stranger as well, as long as he gives no name.
    """
    stranger = Consumer({"group.id": group})  # without servers: it never asks anybody
    try:
        return stranger.consumer_group_metadata()
    finally:
        stranger.close()


def give_up_what_hangs(
    producer: Producer, topics: Sequence[str], group: str, source: str, timeout_s: float
) -> None:
    """Begin a transaction in all partitions, and over a group's offsets, and abort it.

    Args:
        producer: one with transactions, none of which is under way.
        topics: where its records go.
        group: one that somebody has joined. While nobody keeps its offsets librdkafka (2.16) may
            wait for ever to be told who does.
        source: a topic whose offsets the group keeps; none is committed.
        timeout_s: for each request.

    Raises:
        KafkaException: the broker refuses, or does not answer.
        BrokerError: it takes no records.
    """
    producer.begin_transaction()
    for topic in topics:
        for partition in producer.list_topics(topic, timeout_s).topics[topic].partitions:
            # A topic that is compacted takes none without a key.
            producer.produce(topic, key=b"", value=b"", partition=partition)
    if producer.flush(timeout_s):
        raise BrokerError("the broker takes no records to end what hangs")
    producer.send_offsets_to_transaction([TopicPartition(source, 0, 0)], outsider(group), timeout_s)
    producer.abort_transaction(timeout_s)
