"""What every pipeline is measured on: one broker, one bundle of models, the same events.

Events are JSON objects of 30 numbers and an `id`. Producing and reading happen in processes of
their own (`loader.py`, `reader.py`), so that what is measured shares the machine with them, as it
would, but not an interpreter.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

FEATURES = 30
TRAINING_ROWS = 6000
DISTINCT_EVENTS = 1000
PARTITIONS = 4
TIMEOUT_S = 300.0
# Of one partition, before they are on their way.
MOST_RECORDS = 10_000_000
NS_PER_MS = 1e6
NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Rig:
    """A running broker and what flows through it.

    Attributes:
        directory: temporary, everything is in it.
        servers: the broker.
        bundle: the ensemble.
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

    def fill(self, topic: str, partitions: int, count: int) -> None:
        """Write a backlog of `count` events, evenly over the partitions; ids are their numbers."""
        self.write(
            topic,
            (
                [
                    {"value": event_of(self.events, number)}
                    for number in range(partition, count, partitions)
                ]
                for partition in range(partitions)
            ),
        )

    def write(self, topic: str, records: Iterable[list[dict[str, Any]]]) -> None:
        """Write the records of each partition, from the first partition on."""
        producer = Producer(
            {
                "bootstrap.servers": self.servers,
                "queue.buffering.max.messages": MOST_RECORDS,
                "linger.ms": 20,
            }
        )
        for partition, batch in enumerate(records):
            accepted = producer.produce_batch(topic, batch, partition=partition)
            waiting = producer.flush(TIMEOUT_S)
            assert accepted == len(batch), f"{topic} took {accepted} of {len(batch)} records"
            assert not waiting, f"{topic} did not take {waiting} records in time"

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


def partitions_of(client: Consumer | Producer, topic: str) -> int:
    """How many a topic has."""
    return len(client.list_topics(topic, TIMEOUT_S).topics[topic].partitions)


def _child(module: str, *arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", f"benchmarks.pipelines.{module}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@contextmanager
def rig(
    bundle: Path | None = None,
    *,
    servers: str = "",
    properties: Mapping[str, str] | None = None,
    long_lived: bool = False,
    training_rows: int = TRAINING_ROWS,
    compiled: bool = False,
) -> Iterator[Rig]:
    """A broker that runs, and a bundle trained on a synthetic table where none is given.

    Args:
        bundle: an ensemble for the features `f0` to `f29`.
        servers: a broker that is there; else one is started.
        properties: of the broker that is started.
        long_lived: it spends its first two minutes on compiling: for steady streams, not for short
            backlogs.
        training_rows: of the synthetic table.
        compiled: the models are turned into ONNX.
    """
    from streams.embedded import EmbeddedKafka

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not servers:
            place = directory / "kafka"
            kafka = EmbeddedKafka(place, properties=properties, long_lived=long_lived)
            servers = stack.enter_context(kafka).bootstrap_servers
        matrix, labels = labelled(training_rows)
        if bundle is None:
            bundle = train(matrix, labels, directory)
        if compiled:
            bundle = compiled_of(bundle, directory)
        yield Rig(directory, servers, bundle, events_of(matrix[:DISTINCT_EVENTS]))


def events_of(matrix: NDArray[np.float64]) -> list[bytes]:
    """Rows as JSON objects without their last brace and without an id, see `event_of`."""
    return [
        json.dumps({f"f{i}": value for i, value in enumerate(row)})[:-1].encode()
        for row in matrix.tolist()
    ]


def labelled(rows: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """float64[N, 30] and int64[N]: rows, and a label each that follows from some features."""
    matrix = np.round(np.random.default_rng(30).normal(size=(rows, FEATURES)), 4)
    chance = np.random.default_rng(31)
    margin = matrix[:, :5].sum(axis=1) + matrix[:, 5] * matrix[:, 6]
    return matrix, (margin + chance.logistic(size=rows) > 0).astype(np.int64)


def train(matrix: NDArray[np.float64], labels: NDArray[np.int64], directory: Path) -> Path:
    """A bundle of five models."""
    # The processes that read and send import this module too, and train nothing.
    from lab.train import train_bundle

    table = directory / "training.csv"
    header = ",".join(["id", *(f"f{i}" for i in range(FEATURES)), "label"])
    numbered = np.column_stack([np.arange(len(matrix)), matrix, labels])
    formats = ["%d", *["%.4f"] * FEATURES, "%d"]
    np.savetxt(table, numbered, delimiter=",", header=header, comments="", fmt=formats)
    train_bundle(table, "label", "id", directory / "bundle")
    return directory / "bundle"


def compiled_of(bundle: Path, directory: Path) -> Path:
    """The same models, turned into ONNX."""
    from lab.compiling import compile_models

    made, _ = compile_models(bundle, directory / "bundle-compiled")
    return made.directory


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When scores could be read: int64[N] wall-clock nanoseconds each, by id.

    `fallbacks` counts those that were not made of all members.
    """

    ids: NDArray[np.int64]
    arrived_ns: NDArray[np.int64]
    fallbacks: int

    @classmethod
    def load(cls, path: Path) -> "Arrivals":
        """What a reader left."""
        with np.load(path) as file:
            return cls(file["ids"], file["arrived_ns"], int(file["fallbacks"]))

    def throughput(self) -> float:
        """Events a second between the first tenth and the end: starting up is not in it."""
        if not len(self.arrived_ns):
            return 0.0
        arrived = np.sort(self.arrived_ns)
        start = len(arrived) // 10
        return float((len(arrived) - start) / (arrived[-1] - arrived[start]) * NS_PER_S)

    def rate_since(self, began_ns: int) -> float:
        """Events a second from a moment on to the end."""
        return float(len(self.ids) / (self.arrived_ns.max() - began_ns) * NS_PER_S)

    @property
    def repeated(self) -> int:
        """How many came once more."""
        return len(self.ids) - len(np.unique(self.ids))

    def lost(self, count: int) -> int:
        """How many of `count` never came."""
        return count - len(np.unique(self.ids))

    def latencies_ms(self, sent: Path) -> NDArray[np.float64]:
        """float64[N]: from sending to reading, of those that a loader sent."""
        with np.load(sent) as file:
            ids, sent_ns = file["ids"], file["sent_ns"]
        order = np.argsort(self.ids, kind="stable")
        found = np.searchsorted(self.ids[order], ids)
        arrived = self.arrived_ns[order][np.minimum(found, len(order) - 1)]
        assert np.array_equal(self.ids[order][np.minimum(found, len(order) - 1)], ids), "lost"
        return (arrived - sent_ns) / NS_PER_MS
