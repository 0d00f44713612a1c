"""What exactly-once costs: transactions beside flush-and-commit, with our own settings."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from chaos.goals.goal import Result, goal
from chaos.reader import wait_for
from streams.consumers import consumer_config
from streams.embedded import EmbeddedKafka
from streams.settings import KafkaSettings
from streams.sink import producer_config

PARTITIONS = 4
BATCH = 500
VALUE = b"x" * 300
ROUNDS = 4
TIMEOUT_S = 30.0

# Publishes one batch and commits its position; milliseconds of the commit alone.
Publish = Callable[[int], float]


@goal(
    "28",
    f"batches of {BATCH} records and their positions, as transactions and as flush-and-commit",
    "≥ 150 commits/s per producer; send_offsets and commit p99 ≤ 40 ms; throughput ≥ 95 % of "
    "flush-and-commit",
    count=20,
)
def exactly_once_cost(count: int) -> Result:
    """So many seconds of each, in turns; and small batches, for the rate of commits."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as place, EmbeddedKafka(Path(place)) as kafka:
        settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        topics = [NewTopic(name, PARTITIONS, 1) for name in ("in", "out")]
        for future in admin.create_topics(topics).values():
            future.result(TIMEOUT_S)
        with _member(settings) as consumer:
            transact = _transactions(settings, consumer)
            flush = _flush_and_commit(settings, consumer)
            seconds = count / ROUNDS
            for publish in (transact, flush):
                _repeat(publish, BATCH, seconds)  # warm
            batches: dict[Publish, list[float]] = {transact: [], flush: []}
            rates: dict[Publish, list[float]] = {transact: [], flush: []}
            for _ in range(ROUNDS):
                for publish in (transact, flush):
                    took_ms = _repeat(publish, BATCH, seconds)
                    batches[publish] += took_ms
                    rates[publish].append(len(took_ms) / seconds)
            small = _repeat(transact, 1, seconds)
    commits_per_s = len(small) / seconds
    p99_ms = float(np.percentile(batches[transact], 99))
    share = sum(rates[transact]) / sum(rates[flush])
    return Result(
        {
            "commits_per_s": commits_per_s,
            f"commits_per_s_of_{BATCH}": sum(rates[transact]) / ROUNDS,
            "flush_and_commit_per_s": sum(rates[flush]) / ROUNDS,
            "throughput_share": share,
            "offsets_and_commit_p99_ms": p99_ms,
        },
        commits_per_s >= 150 and p99_ms <= 40 and share >= 0.95,
        "one producer, alone with the broker",
    )


@contextmanager
def _member(settings: KafkaSettings) -> Iterator[Consumer]:
    """A member of a group that owns the input."""
    consumer = Consumer(consumer_config(settings, "cost", "cost.0"))
    try:
        consumer.subscribe(["in"])
        wait_for(lambda: [consumer.poll(0.1), consumer.assignment()][1], lambda: "no assignment")
        yield consumer
    finally:
        consumer.close()


def _repeat(publish: Publish, records: int, seconds: float) -> list[float]:
    end_s = time.monotonic() + seconds
    took_ms = []
    while time.monotonic() < end_s:
        took_ms.append(publish(records))
    return took_ms


def _produce(producer: Producer, records: int) -> None:
    for number in range(records):
        producer.produce("out", VALUE, partition=number % PARTITIONS)


def _positions() -> list[TopicPartition]:
    return [TopicPartition("in", partition, 0) for partition in range(PARTITIONS)]


def _transactions(settings: KafkaSettings, consumer: Consumer) -> Publish:
    properties = producer_config(settings)
    producer = Producer(
        {**properties, "transactional.id": "cost.0", "transaction.timeout.ms": 10_000}
    )
    producer.init_transactions(TIMEOUT_S)
    group = consumer.consumer_group_metadata()

    def publish(records: int) -> float:
        producer.begin_transaction()
        _produce(producer, records)
        began_s = time.perf_counter()
        producer.send_offsets_to_transaction(_positions(), group, TIMEOUT_S)
        producer.commit_transaction(TIMEOUT_S)
        return (time.perf_counter() - began_s) * 1000

    return publish


def _flush_and_commit(settings: KafkaSettings, consumer: Consumer) -> Publish:
    producer = Producer(producer_config(settings))

    def publish(records: int) -> float:
        _produce(producer, records)
        began_s = time.perf_counter()
        producer.flush(TIMEOUT_S)
        consumer.commit(offsets=_positions(), asynchronous=False)
        return (time.perf_counter() - began_s) * 1000

    return publish
