"""What every pipeline is measured on: one broker, one bundle of five models, the same events.

Events are JSON objects of 30 numbers and an `id`. Producing and reading happen in processes of
their own (`loader.py`, `reader.py`), so that what is measured shares the machine with them, as it
would, but not an interpreter.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

FEATURES = 30
TRAINING_ROWS = 6000
DISTINCT_EVENTS = 1000
PARTITIONS = 4
TIMEOUT_S = 300.0
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Rig:
    """A running broker and what flows through it.

    Attributes:
        directory: temporary, everything is in it.
        servers: the broker.
        bundle: the trained ensemble.
        events: JSON objects without their last brace and without an id.
    """

    directory: Path
    servers: str
    bundle: Path
    events: list[bytes]

    @property
    def models(self) -> list[str]:
        """Names of the members."""
        from registry.bundle import load_manifest

        return [model.name for model in load_manifest(self.bundle).manifest.models]

    def create_topics(self, names: dict[str, int]) -> None:
        """Make topics: name → partitions."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        wanted = [NewTopic(name, partitions) for name, partitions in names.items()]
        for future in admin.create_topics(wanted).values():
            future.result(TIMEOUT_S)

    def fill(self, topic: str, count: int) -> None:
        """Write a backlog of `count` events, evenly over the partitions; ids are their numbers."""
        producer = Producer(
            {
                "bootstrap.servers": self.servers,
                "queue.buffering.max.messages": 2 * count,
                "linger.ms": 20,
            }
        )
        for partition in range(PARTITIONS):
            values = [
                {"value": event_of(self.events, number)}
                for number in range(partition, count, PARTITIONS)
            ]
            producer.produce_batch(topic, values, partition=partition)
        producer.flush(TIMEOUT_S)

    def reader(
        self, topic: str, count: int, out: Path, known: int = 0
    ) -> "subprocess.Popen[bytes]":
        """Start reading scores until there are `count`; arrivals go to `out`.

        Returns once it has read those that are `known` to be there.
        """
        reader = _child("reader", self.servers, topic, count, out, known)
        assert reader.stdout is not None, "it was started with a pipe"
        reader.stdout.readline()
        return reader

    def loader(
        self, topic: str, rate: int, seconds: int, first_id: int, out: Path
    ) -> "subprocess.Popen[bytes]":
        """Start sending events at a steady rate; when each was sent goes to `out`."""
        source = self.directory / "events.json"
        source.write_text(json.dumps([event.decode() for event in self.events]))
        return _child("loader", self.servers, topic, rate, seconds, first_id, source, out)


def event_of(events: list[bytes], number: int) -> bytes:
    """The event with that id."""
    return b'%s,"id":"%d"}' % (events[number % len(events)], number)


def _child(module: str, *arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", f"benchmarks.pipelines.{module}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@contextmanager
def rig(
    bundle: Path | None = None, *, long_lived: bool = False, training_rows: int = TRAINING_ROWS
) -> Iterator[Rig]:
    """A broker that runs, and a bundle trained on a synthetic table where none is given.

    A `long_lived` broker spends its first minute on compiling: for steady streams, not for short
    backlogs.
    """
    from streams.embedded import EmbeddedKafka

    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedKafka(Path(name) / "kafka", long_lived=long_lived) as kafka,
    ):
        directory = Path(name)
        matrix = _matrix(training_rows)
        if bundle is None:
            bundle = _train(matrix, directory)
        events = [
            json.dumps({f"f{i}": value for i, value in enumerate(row)})[:-1].encode()
            for row in matrix[:DISTINCT_EVENTS].tolist()
        ]
        yield Rig(directory, kafka.bootstrap_servers, bundle, events)


def _matrix(rows: int) -> NDArray[np.float64]:
    return np.round(np.random.default_rng(30).normal(size=(rows, FEATURES)), 4)


def _train(matrix: NDArray[np.float64], directory: Path) -> Path:
    # The processes that read and send import this module too, and train nothing.
    from lab.train import train_bundle

    chance = np.random.default_rng(31)
    margin = matrix[:, :5].sum(axis=1) + matrix[:, 5] * matrix[:, 6]
    labels = (margin + chance.logistic(size=len(matrix)) > 0).astype(int)
    table = directory / "training.csv"
    header = ",".join(["id", *(f"f{i}" for i in range(FEATURES)), "label"])
    numbered = np.column_stack([np.arange(len(matrix)), matrix, labels])
    formats = ["%d", *["%.4f"] * FEATURES, "%d"]
    np.savetxt(table, numbered, delimiter=",", header=header, comments="", fmt=formats)
    train_bundle(table, "label", "id", directory / "bundle")
    return directory / "bundle"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When scores could be read: int64[N] wall-clock nanoseconds each, by id."""

    ids: NDArray[np.int64]
    arrived_ns: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> "Arrivals":
        """What a reader left."""
        with np.load(path) as file:
            return cls(file["ids"], file["arrived_ns"])

    def steady(self) -> tuple[int, int, int]:
        """From when to when, in nanoseconds, all but the first tenth arrived; and how many."""
        arrived = np.sort(self.arrived_ns)
        start = len(arrived) // 10
        return int(arrived[start]), int(arrived[-1]), len(arrived) - start

    def throughput(self) -> float:
        """Events a second between the first tenth and the end: starting up is not in it."""
        if not len(self.arrived_ns):
            return 0.0
        began_ns, ended_ns, count = self.steady()
        return count / ((ended_ns - began_ns) / 1e9)

    def latencies_ms(self, sent: Path) -> NDArray[np.float64]:
        """float64[N]: from sending to reading, of those that a loader sent."""
        with np.load(sent) as file:
            ids, sent_ns = file["ids"], file["sent_ns"]
        order = np.argsort(self.ids, kind="stable")
        found = np.searchsorted(self.ids[order], ids)
        arrived = self.arrived_ns[order][np.minimum(found, len(order) - 1)]
        assert np.array_equal(self.ids[order][np.minimum(found, len(order) - 1)], ids), "lost"
        return (arrived - sent_ns) / NS_PER_MS
