"""A client that knows no broker is told of one, and goes on with what it was about to do."""

import confluent_kafka
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from streams import bootstrap
from streams.bootstrap import Client, bootstrap_again

# Nobody listens there.
NOWHERE = "127.0.0.1:1"
TIMEOUT_S = 20.0


def client(kind: type[Client]) -> Client:
    properties = {"bootstrap.servers": NOWHERE, "log_level": 0}
    return kind({**properties, "group.id": "readers"} if kind is Consumer else properties)


@pytest.mark.parametrize("kind", [Consumer, Producer])
def test_a_client_finds_the_broker_that_it_is_told_of(kind: type[Client], kafka) -> None:
    made = client(kind)
    with pytest.raises(KafkaException):
        made.list_topics(timeout=0.5)
    assert bootstrap_again(made, kafka.bootstrap_servers)
    assert made.list_topics(timeout=TIMEOUT_S).brokers


def test_what_waited_for_a_broker_arrives(kafka, topics) -> None:
    topic = topics("events")
    producer = client(Producer)
    producer.produce(topic, b"waits")
    assert producer.flush(0.2) == 1
    assert bootstrap_again(producer, kafka.bootstrap_servers)
    assert producer.flush(TIMEOUT_S) == 0
    consumer = client(Consumer)
    consumer.assign([TopicPartition(topic, p, 0) for p in consumer_partitions(topic, kafka)])
    assert consumer.poll(0.1) is None
    assert bootstrap_again(consumer, kafka.bootstrap_servers)
    message = consumer.poll(TIMEOUT_S)
    assert message is not None
    assert message.value() == b"waits"
    consumer.close()


def consumer_partitions(topic: str, kafka) -> list[int]:
    found = Producer({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(topic, TIMEOUT_S)
    return list(found.topics[topic].partitions)


def test_a_client_that_is_closed_is_left_alone(kafka) -> None:
    consumer = client(Consumer)
    consumer.close()
    assert not bootstrap_again(consumer, kafka.bootstrap_servers)


def test_so_is_one_of_a_version_that_is_not_known(kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.confluent_kafka, "__version__", "3.0.0")
    producer = client(Producer)
    assert not bootstrap_again(producer, kafka.bootstrap_servers)
    with pytest.raises(KafkaException):
        producer.list_topics(timeout=0.5)


def test_the_version_that_is_installed_is_known() -> None:
    """Else its source must be looked at again."""
    assert bootstrap._KNOWN.fullmatch(confluent_kafka.__version__)
