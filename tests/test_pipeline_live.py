"""The whole pipeline: train, run, score; lose a worker and have it back; ask for a score."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.reader import wait_for
from chaos.verdict import Verdict
from lab.table import events, read_table
from lab.train import train_bundle
from registry.bundle import LoadedBundle
from streams.embedded import EmbeddedKafka, EmbeddedRedis
from tests.cli.cli_kit import ensemble, running
from tests.combiner.live_kit import ROOT
from tests.conftest import Topics
from tests.pipeline_kit import Pipeline, await_running, pipeline_config, worker_of

DATA = ROOT / "examples" / "credit" / "credit_default.csv.gz"
LABEL, ID = "default.payment.next.month", "ID"
ROWS = 1500
MEMBERS = ("logistic_regression", "lightgbm")
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
    extra = f"""
[event]
id = "{ID}"
[combiner]
deadline_ms = {DEADLINE_MS}
[cache]
url = "{redis_server.url}"
"""
    servers = kafka.bootstrap_servers
    return pipeline_config(tmp_path, servers, topics, bundle.directory, MEMBERS, extra)


@pytest.fixture
def pipeline(
    kafka: EmbeddedKafka, topics: Topics, data: Path, bundle: LoadedBundle, config: Path
) -> Iterator[Pipeline]:
    rows = events(read_table(data), bundle.manifest.schema, exclude=(LABEL, ID))
    pipeline = Pipeline(kafka.bootstrap_servers, topics.prefix, rows, ID)
    yield pipeline
    pipeline.reader.close()


def latest_of(entity: str, config: Path) -> str:
    """The id of the event whose score is kept for an entity."""
    done = ensemble("get", entity, "--json", "-c", config)
    return str(json.loads(done.stdout)["id"]) if done.returncode == 0 else done.stderr


def test_from_training_to_the_latest_score(config: Path, pipeline: Pipeline) -> None:
    with running("up", "-c", config) as command:
        await_running(command, MEMBERS)
        for _ in range(10):
            for found in pipeline.score(100):
                assert found.record["fallback"] == "none", found.record
                assert found.record["models"] == list(MEMBERS)
                assert 0 <= found.record["score"] <= 1
        worker = worker_of(command, "lightgbm")
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
