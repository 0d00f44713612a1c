"""What tests share: one real broker, one real Redis, and topics that nobody else uses.

A component that is missing is an error that says how to get it; nothing is skipped.
"""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import settings

from chaos.reader import wait_for
from streams.embedded import EmbeddedKafka, EmbeddedRedis

# Machines are shared: the time of one example says nothing about the code.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

TOPIC_TIMEOUT_S = 10.0
# Of a broker that nobody stops. One that a busy machine keeps from its heartbeats is held to be
# dead, and then names no brokers at all: which is what other tests are about.
AWAKE = {"broker.session.timeout.ms": "60000"}


class Topics:
    """Makes topics whose names start with a prefix of their own: `topics("scored", 4)`."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.prefix = f"t{uuid.uuid4().hex[:8]}-"
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    def __call__(self, name: str, partitions: int = 1, **config: str) -> str:
        """Create the topic and return its full name; `retention_ms="1000"` sets a property."""
        topic = self.prefix + name
        properties = {key.replace("_", "."): value for key, value in config.items()}
        request = NewTopic(topic, num_partitions=partitions, config=properties)
        self._admin.create_topics([request])[topic].result(TOPIC_TIMEOUT_S)
        # A broker hears of it a little later; a consumer that asks before is told of no such topic.
        wait_for(lambda: self._is_there(topic, partitions), lambda: f"no {topic}")
        return topic

    def _is_there(self, topic: str, partitions: int) -> bool:
        found = self._admin.list_topics(topic, TOPIC_TIMEOUT_S).topics[topic]
        return found.error is None and len(found.partitions) == partitions


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker for the whole session; whoever wants to stop or kill one starts its own."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), properties=AWAKE) as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis for the whole session; whoever wants to stop or kill one starts its own."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def topics(kafka: EmbeddedKafka) -> Topics:
    """A topic factory with a fresh prefix for each test."""
    return Topics(kafka.bootstrap_servers)
