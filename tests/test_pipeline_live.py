"""The whole pipeline: train, run, score; lose a worker and have it back; ask for a score."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaError, Message, Producer

from chaos.reader import TIMEOUT_S, Reader, read_all, wait_for
from chaos.verdict import Outcome, Verdict, judge
from lab.table import events, read_table
from lab.train import train_bundle
from registry.bundle import LoadedBundle
from streams.embedded import EmbeddedKafka, EmbeddedRedis
from tests.cli.cli_kit import Running, ensemble, running, write_config
from tests.combiner.live_kit import ROOT
from tests.conftest import Topics

DATA = ROOT / "examples" / "credit" / "credit_default.csv.gz"
LABEL, ID = "default.payment.next.month", "ID"
ROWS = 1500
MEMBERS = ("logistic_regression", "lightgbm")
PARTITIONS = 2
# Patient, because machines are shared; short enough that a worker cannot be back within it.
DEADLINE_MS = 800


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("credit") / "credit.csv"
    with gzip.open(DATA, "rt", encoding="utf-8") as source:
        path.write_text("".join(line for line, _ in zip(source, range(ROWS + 1), strict=False)))
    return path


@pytest.fixture(scope="module")
def bundle(data: Path) -> LoadedBundle:
    out = data.with_name("bundle")
    return train_bundle(data, LABEL, ID, out, folds=2, members=MEMBERS).bundle


@pytest.fixture
def config(
    tmp_path: Path,
    kafka: EmbeddedKafka,
    redis_server: EmbeddedRedis,
    topics: Topics,
    bundle: LoadedBundle,
) -> Path:
    """Each model has a worker of its own."""
    models = "".join(f'[[models]]\nname = "{name}"\n' for name in MEMBERS)
    workers = "".join(f'[[workers]]\nname = "{n}"\nmodels = ["{n}"]\n' for n in MEMBERS)
    extra = f"""
[event]
id = "{ID}"
[combiner]
deadline_ms = {DEADLINE_MS}
[cache]
url = "{redis_server.url}"
"""
    path = write_config(tmp_path, kafka.bootstrap_servers, topics, extra, models + workers)
    text = path.read_text().replace("[ensemble]", f'[ensemble]\nbundle = "{bundle.directory}"')
    path.write_text(text)
    assert ensemble("topics", "create", "-c", path).returncode == 0
    return path


class Pipeline:
    """Sends events a few at a time, and waits for their scores."""

    def __init__(self, servers: str, prefix: str, rows: Sequence[bytes]) -> None:
        self._servers, self._rows = servers, rows
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
                b'{"%s":"event-%d",%s' % (ID.encode(), self._sent, row),
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


@pytest.fixture
def pipeline(
    kafka: EmbeddedKafka, topics: Topics, data: Path, bundle: LoadedBundle, config: Path
) -> Iterator[Pipeline]:
    rows = events(read_table(data), bundle.manifest.schema, exclude=(LABEL, ID))
    pipeline = Pipeline(kafka.bootstrap_servers, topics.prefix, rows)
    yield pipeline
    pipeline.reader.close()


def await_all(command: Running, parts: Sequence[str]) -> None:
    """Wait until each of these was said, in whatever order."""
    left = set(parts)
    while left:
        line = command.await_line("")
        left -= {part for part in left if part in line}


def latest_of(entity: str, config: Path) -> str:
    """The id of the event whose score is kept for an entity."""
    done = ensemble("get", entity, "--json", "-c", config)
    return str(json.loads(done.stdout)["id"]) if done.returncode == 0 else done.stderr


def test_from_training_to_the_latest_score(config: Path, pipeline: Pipeline) -> None:
    with running("up", "-c", config) as command:
        await_all(command, [*(f"{name} reads [(" for name in MEMBERS), "owns [("])
        for _ in range(10):
            for found in pipeline.score(100):
                assert found.record["fallback"] == "none", found.record
                assert found.record["models"] == list(MEMBERS)
                assert 0 <= found.record["score"] <= 1
        [worker] = [
            process
            for process in psutil.Process(command.process.pid).children(recursive=True)
            if {"worker", "lightgbm"} <= set(process.cmdline())
        ]
        # The next process would be there before an event is given up.
        worker.suspend()
        [found] = pipeline.score(1)
        assert found.record["fallback"] == "partial"
        assert found.record["models"] == ["logistic_regression"]
        assert found.record["missing"] == {"lightgbm": "late"}
        worker.kill()
        # One after the other, until the worker that was started again answers in time.
        wait_for(
            lambda: pipeline.score(1)[0].record["fallback"] == "none",
            lambda: f"still {pipeline.reader.outcomes[-1].record}",
        )
        last = pipeline.reader.outcomes[-1].id
        wait_for(
            lambda: latest_of(last.replace("event", "customer"), config) == last,
            lambda: latest_of(last.replace("event", "customer"), config),
        )
        assert command.terminate() == 0
    assert pipeline.verdicts() == (Verdict(), Verdict())
    assert len(pipeline.acknowledged) > 1000
