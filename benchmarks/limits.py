"""What an event costs before anything is done with it: Kafka's client alone, and JSON.

    python -m benchmarks.limits [--events 300000] [--broker SERVERS] [--smoke]

CPU microseconds an event of one process, its client's threads included, from a backlog of JSON
events of 30 features; the broker is not in it. A worker has to fetch and to decode, a combiner to
fetch, to decode ids and times, and to publish as many records, in transactions with the positions
of what it read. `the limit` is both together, with joining, deciding and encoding for nothing:
beside the models, no pipeline on this client costs less, and the models' share of all CPU is no
larger than what stands there.
"""

import argparse
import time
import uuid
from collections.abc import Callable, Sequence

from confluent_kafka import Producer, TopicPartition

from benchmarks.pipeline import models_alone_us
from benchmarks.pipelines.rig import PARTITIONS, TIMEOUT_S, TRAINING_ROWS, Rig, rig
from streams.columns import Columns, columns_of
from streams.settings import EventSettings, KafkaSettings
from streams.sink import producer_config
from streams.source import Source

FETCH_RECORDS = 2000
FETCH_WAIT_S = 0.1
# As long as the score of five models.
SCORE = b"x" * 280
SCORES_IN_A_TRANSACTION = 4000
US_PER_S = 1e6
SMOKE_EVENTS, SMOKE_ROWS = 3000, 600

Work = Callable[[Columns], object]


def fetching(environment: Rig, topic: str, events: int, work: Work) -> float:
    """CPU microseconds of an event that is fetched and worked on."""
    source = Source(
        KafkaSettings(bootstrap_servers=environment.servers), group=uuid.uuid4().hex, topics=[topic]
    )
    # To join a group and to find its partitions is no event's work.
    first: Sequence[Columns] = []
    while not first:
        first = columns_of(source.fetch(1, FETCH_WAIT_S))
    began_s, seen = time.process_time(), 0
    while seen < events - 1:
        for columns in columns_of(source.fetch(FETCH_RECORDS, FETCH_WAIT_S)):
            work(columns)
            seen += len(columns)
    spent_s = time.process_time() - began_s
    source.close()
    return spent_s / seen * US_PER_S


def publishing(environment: Rig, topic: str, events: int) -> float:
    """CPU microseconds of a record that is written in a transaction with positions."""
    kafka = KafkaSettings(bootstrap_servers=environment.servers)
    reader = Source(kafka, group=uuid.uuid4().hex, topics=[topic])
    while not reader.fetch(1, FETCH_WAIT_S):
        pass
    group = reader.consumer.consumer_group_metadata()
    producer = Producer(
        producer_config(kafka)
        | {"transactional.id": uuid.uuid4().hex, "delivery.report.only.error": True}
    )
    producer.init_transactions(TIMEOUT_S)
    share = SCORES_IN_A_TRANSACTION // PARTITIONS
    rounds = max(1, events // SCORES_IN_A_TRANSACTION)
    began_s = time.process_time()
    for turn in range(1, rounds + 1):
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            records = [{"key": None, "value": SCORE} for _ in range(share)]
            producer.produce_batch(f"{topic}-scored", records, partition=partition)
        offsets = [TopicPartition(topic, partition, turn) for partition in range(PARTITIONS)]
        producer.send_offsets_to_transaction(offsets, group, TIMEOUT_S)
        producer.commit_transaction(TIMEOUT_S)
    spent_s = time.process_time() - began_s
    reader.close()
    return spent_s / (rounds * share * PARTITIONS) * US_PER_S


def measure(environment: Rig, events: int) -> None:
    """Print a line for each."""
    from registry.bundle import load_manifest
    from streams.mapping import decoder_of

    schema = load_manifest(environment.bundle).manifest.schema
    event = EventSettings(id="id")
    topic = f"limits-{uuid.uuid4().hex[:6]}"
    environment.create_topics({topic: PARTITIONS, f"{topic}-scored": PARTITIONS})
    environment.fill(topic, PARTITIONS, events)

    def decoding(*, features: bool) -> Work:
        decode = decoder_of(schema, event, features=features).decode
        return lambda found: decode(found.values, found.keys, found.timestamps_ms, lambda _row: "-")

    models = models_alone_us(environment)
    fetch = fetching(environment, topic, events, lambda _columns: None)
    worker = fetching(environment, topic, events, decoding(features=True))
    combiner = fetching(environment, topic, events, decoding(features=False))
    publish = publishing(environment, topic, events)
    client, limit = 2 * fetch + publish, worker + combiner + publish
    for name, cost in {
        "models, offline": models,
        "fetch": fetch,
        "fetch, decode to a matrix": worker,
        "fetch, decode ids and times": combiner,
        "publish, in transactions": publish,
        "the client alone: twice fetched, once published": client,
        "the limit: the same, decoded": limit,
    }.items():
        print(f"{name:48s}{cost:7.2f} us")
    print(f"{'models, of all with the client alone':48s}{models / (models + client):7.2f}")
    print(f"{'models, of all at the limit':48s}{models / (models + limit):7.2f}")


def main() -> None:
    """Measure one after another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--broker", default="", help="one that runs; else one is started")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    events, rows = options.events, TRAINING_ROWS
    if options.smoke:
        events, rows = SMOKE_EVENTS, SMOKE_ROWS
    with rig(servers=options.broker, training_rows=rows) as environment:
        measure(environment, events)


if __name__ == "__main__":
    main()
