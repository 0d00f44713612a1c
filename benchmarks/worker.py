"""How fast one worker process is: events a second from a backlog, and latency at a steady rate.

    python -m benchmarks.worker [--bundle DIR] [--events 200000] [--rate 1000] [--seconds 10]

A real broker, one worker with every model of the bundle (without `--bundle` the five of the
credit example, trained first), JSON events like those the bundle was
trained on. The backlog is there before the worker starts; its figure runs from the first frame to
the last one, so start-up is not in it, and the broker shares the machine. Latency is from the
event's timestamp to the frame's, both written by the producing clients, in whole milliseconds.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

from lab.train import train_bundle
from registry.bundle import load_manifest
from streams.embedded import EmbeddedKafka
from streams.features import FeatureSchema
from streams.frames import decode_frames
from streams.settings import Settings

PARTITIONS = 4
TIMEOUT_S = 120.0
DISTINCT_EVENTS = 1000

# By model: (timestamp in ms, int64[N] of offset times partitions plus partition) of each frame.
Frames = dict[str, list[tuple[int, NDArray[np.int64]]]]


def make_settings(servers: str, bundle: Path, options: argparse.Namespace) -> Settings:
    """One worker with all models of the bundle."""
    names = [model.name for model in load_manifest(bundle).manifest.models]
    tuning = {"max_batch": options.max_batch, "fetch_records": options.fetch_records}
    return Settings.model_validate(
        {
            "ensemble": {"name": "bench", "bundle": str(bundle)},
            "kafka": {"bootstrap_servers": servers},
            "topics": {"partitions": PARTITIONS},
            "models": [{"name": name} for name in names],
            "workers": [{"name": "all", "models": names}],
            "worker": tuning,
            "metrics": {"worker_port": 0},
        }
    )


def train_example(directory: Path) -> Path:
    """The five models of the credit example."""
    data = Path("examples") / "credit" / "credit_default.csv.gz"
    train_bundle(data, "default.payment.next.month", "ID", directory)
    return directory


def make_events(schema: FeatureSchema) -> list[bytes]:
    """JSON events with plausible numbers; trees do not care which, and take the same time."""
    chance = np.random.default_rng(7)
    rows = np.round(chance.normal(0, 50_000, (DISTINCT_EVENTS, len(schema)))).astype(int).tolist()
    return [json.dumps(dict(zip(schema.names, row, strict=True))).encode() for row in rows]


def create_topics(settings: Settings) -> None:
    """The topics that a worker needs."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    topics = settings.topics
    wanted = [NewTopic(name, PARTITIONS) for name in (*topics.inputs, topics.predictions)]
    wanted.append(NewTopic(topics.control, 1))
    for future in admin.create_topics(wanted).values():
        future.result(TIMEOUT_S)


def produce_backlog(settings: Settings, events: list[bytes], count: int) -> None:
    """Write `count` events, evenly over the partitions."""
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "queue.buffering.max.messages": 2 * count,
            "linger.ms": 20,
        }
    )
    values = [{"value": events[i % len(events)]} for i in range(count)]
    for partition in range(PARTITIONS):
        producer.produce_batch(
            settings.topics.inputs[0], values[partition::PARTITIONS], partition=partition
        )
    producer.flush(TIMEOUT_S)


def produce_steadily(settings: Settings, events: list[bytes], options: argparse.Namespace) -> None:
    """Write single events at a rate, each when its time has come."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "linger.ms": 0})
    # Connections are made with the first record; a producer that has them is what is measured.
    for partition in range(PARTITIONS):
        producer.produce(settings.topics.inputs[0], value=events[0], partition=partition)
    producer.flush(TIMEOUT_S)
    pause = threading.Event()
    started = time.perf_counter()
    for i in range(options.rate * options.seconds):
        wait_s = started + i / options.rate - time.perf_counter()
        if wait_s > 0:
            pause.wait(wait_s)
        producer.produce(
            settings.topics.inputs[0], value=events[i % len(events)], partition=i % PARTITIONS
        )
        producer.poll(0)
    producer.flush(TIMEOUT_S)


def read_frames(settings: Settings, events: int) -> Frames:
    """Every frame of every model."""
    models = {model.name for model in settings.models}
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": "bench-reader",
            "enable.auto.commit": False,
        }
    )
    topic = settings.topics.predictions
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    frames: Frames = {name: [] for name in models}
    counts = dict.fromkeys(models, 0)
    give_up = time.monotonic() + TIMEOUT_S
    while min(counts.values()) < events and time.monotonic() < give_up:
        for message in consumer.consume(1000, 0.1):
            for frame in decode_frames(message.value()):
                cells = frame.offsets * PARTITIONS + frame.partition
                frames[frame.model].append((message.timestamp()[1], cells))
                counts[frame.model] += len(cells)
    consumer.close()
    return frames


@contextlib.contextmanager
def running_worker(settings: Settings, profile: str) -> Iterator[subprocess.Popen[bytes]]:
    """The worker as its own process."""
    code = (
        "import sys, logging; logging.basicConfig(level=logging.INFO);"
        "from streams.settings import Settings; from streams.metrics import Metrics;"
        "from workers.service import run_worker;"
        "run_worker(Settings.model_validate_json(sys.argv[1]), 'all', '0', Metrics())"
    )
    command = [sys.executable, *profile.split(), "-c", code, settings.model_dump_json()]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        process.wait(TIMEOUT_S)
        print(f"stop            {time.perf_counter() - began:8.2f} s, exit {process.returncode}")


def report_backlog(frames: Frames, events: int) -> None:
    """Events a second over all models, and the size of their frames."""
    stamps = [stamp for rows in frames.values() for stamp, _ in rows]
    seconds = (max(stamps) - min(stamps)) / 1000
    print(f"backlog         {events / seconds:8.0f} events/s with {len(frames)} models")
    for name, rows in frames.items():
        cells = np.concatenate([cells for _, cells in rows])
        missing = events - len(np.unique(cells))
        print(f"  {name:24s} {len(cells) / len(rows):8.0f} events a frame, {missing} missing")


def report_latency(settings: Settings, frames: Frames, options: argparse.Namespace) -> None:
    """Quantiles over all events, per model."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "bench-events"}
    )
    topic = settings.topics.inputs[0]
    first = options.events // PARTITIONS + 1
    consumer.assign([TopicPartition(topic, p, first) for p in range(PARTITIONS)])
    born: dict[int, int] = {}
    give_up = time.monotonic() + TIMEOUT_S
    while len(born) < options.rate * options.seconds and time.monotonic() < give_up:
        for message in consumer.consume(1000, 0.1):
            cell = (message.offset() or 0) * PARTITIONS + (message.partition() or 0)
            born[cell] = message.timestamp()[1]
    consumer.close()
    for name, rows in frames.items():
        late = [
            stamp - born[cell] for stamp, cells in rows for cell in cells.tolist() if cell in born
        ]
        p50, p95, p99 = np.percentile(late, [50, 95, 99])
        print(f"  {name:24s} p50 {p50:5.0f}  p95 {p95:5.0f}  p99 {p99:5.0f}  max {max(late)} ms")


def main() -> None:
    """Run both, print the figures."""
    parser = argparse.ArgumentParser(description="throughput and latency of one worker")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--max-batch", type=int, default=2000)
    parser.add_argument("--fetch-records", type=int, default=2000)
    parser.add_argument("--profile", default="", help="options for the worker's interpreter")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, EmbeddedKafka(Path(directory)) as kafka:
        bundle = options.bundle or train_example(Path(directory) / "bundle")
        settings = make_settings(kafka.bootstrap_servers, bundle, options)
        create_topics(settings)
        events = make_events(load_manifest(bundle).manifest.schema)
        produce_backlog(settings, events, options.events)
        with running_worker(settings, options.profile):
            report_backlog(read_frames(settings, options.events), options.events)
            if options.rate:
                produce_steadily(settings, events, options)
                total = options.events + PARTITIONS + options.rate * options.seconds
                frames = read_frames(settings, total)
                print(f"steady          {options.rate:8d} events/s")
                report_latency(settings, frames, options)


if __name__ == "__main__":
    main()
