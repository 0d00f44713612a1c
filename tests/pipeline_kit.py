"""A trained ensemble that runs as a user runs it: `up`, events in, outcomes out."""

from collections.abc import Sequence
from pathlib import Path

import psutil
from confluent_kafka import KafkaError, Message, Producer

from chaos.reader import TIMEOUT_S, Reader, read_all, wait_for
from chaos.verdict import Outcome, Verdict, judge
from tests.cli.cli_kit import Running, ensemble, write_config
from tests.conftest import Topics

PARTITIONS = 2


def pipeline_config(
    directory: Path, servers: str, topics: Topics, bundle: Path, members: Sequence[str], extra: str
) -> Path:
    """A configuration in which each model has a worker of its own; makes the topics."""
    models = "".join(f'[[models]]\nname = "{name}"\n' for name in members)
    workers = "".join(f'[[workers]]\nname = "{n}"\nmodels = ["{n}"]\n' for n in members)
    path = write_config(directory, servers, topics, extra, models + workers)
    text = path.read_text().replace("[ensemble]", f'[ensemble]\nbundle = "{bundle}"')
    corrections = f'[topics]\ncorrections = "{topics.prefix}corrections"'
    path.write_text(text.replace("[topics]", corrections))
    assert ensemble("topics", "create", "-c", path).returncode == 0
    return path


def await_running(command: Running, members: Sequence[str]) -> None:
    """Wait until `up` says, in whatever order, that each part has its partitions."""
    left = {*(f"{name} reads [(" for name in members), "owns [("}
    while left:
        line = command.await_line("")
        left -= {part for part in left if part in line}


def worker_of(command: Running, model: str) -> psutil.Process:
    """The process of one model's worker."""
    [worker] = [
        process
        for process in psutil.Process(command.process.pid).children(recursive=True)
        if {"worker", model} <= set(process.cmdline())
    ]
    return worker


class Pipeline:
    """Sends events a few at a time, and waits for their scores."""

    def __init__(self, servers: str, prefix: str, rows: Sequence[bytes], id_field: str) -> None:
        self._servers, self._rows, self._id = servers, rows, id_field.encode()
        self._events = prefix + "events"
        self._outputs = [prefix + "scored", prefix + "dead_letters"]
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
        self.reader = Reader(servers, self._outputs, PARTITIONS)
        self.acknowledged: set[str] = set()
        self._sent = 0

    def score(self, count: int) -> list[Outcome]:
        """Send some events; their outcomes, in the order of their arrival."""
        before = len(self.reader.outcomes)
        for _ in range(count):
            row = self._rows[self._sent % len(self._rows)].removeprefix(b"{")
            self._producer.produce(
                self._events,
                b'{"%s":"event-%d",%s' % (self._id, self._sent, row),
                key=b"customer-%d" % self._sent,
                on_delivery=self._delivered,
            )
            self._sent += 1
        assert self._producer.flush(TIMEOUT_S) == 0
        wait_for(
            lambda: self.acknowledged <= self.reader.sources,
            lambda: f"no outcome of {self.acknowledged - self.reader.sources}",
        )
        return self.reader.outcomes[before:]

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        source = f"{message.topic()}/{message.partition()}/{message.offset()}"
        self.acknowledged.add(source)

    def verdicts(self) -> tuple[Verdict, Verdict]:
        after = read_all(self._servers, self._outputs, PARTITIONS)
        return judge(self.acknowledged, self.reader.outcomes), judge(self.acknowledged, after)
