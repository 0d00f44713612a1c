"""The monitor process with a real broker."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from combiner.identity import Identity
from streams.embedded import EmbeddedKafka
from streams.records import HealthRecord, ModelState
from tests.cli.cli_kit import WAIT_S, await_metric, ensemble, running, write_config
from tests.conftest import Topics

# What anybody may write to the topic: nothing, no JSON, JSON that is no record, records of nobody.
RUBBISH: list[bytes | None] = [
    None,
    b"",
    b"no record",
    b"\xff\xfe",
    b"[]",
    b'{"model": "a"}',
    b'{"model": "a", "deep": ' + b"[" * 100_000,
    b'{"model": 1, "state": "HEALTHY"}',
    bytes(900_000),
]
Says = dict[tuple[str, str], ModelState]  # (model, combiner) -> state


@contextmanager
def combiners(kafka: EmbeddedKafka, topic: str, says: Says) -> Iterator[None]:
    """Combiners that say, ten times a second, whatever stands in `says` at the time."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    stop = threading.Event()

    def speak() -> None:
        while not stop.wait(0.1):
            for (model, combiner), state in list(says.items()):
                record = HealthRecord(model, state, combiner, "", 1, 0, 0, 0, None, "")
                producer.produce(topic, msgspec.json.encode(record), key=model)
            for value in RUBBISH:
                producer.produce(topic, value, key=b"\xff")
            stranger = HealthRecord("stranger", "FAILED", "0", "", 1, 0, 0, 0, None, "")
            producer.produce(topic, msgspec.json.encode(stranger))
            producer.flush(WAIT_S)

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def config(tmp_path: Path, kafka: EmbeddedKafka, topics: Topics) -> Path:
    models = "".join(f'[[models]]\nname = "{name}"\nexternal = true\n' for name in "ab")
    return write_config(tmp_path, kafka.bootstrap_servers, topics, models=models)


def state_line(model: str, state: str, value: str) -> str:
    return f'ensemble_model_state{{model="{model}",state="{state}"}} {value}'


def test_states_of_all_combiners_become_gauges(
    config: Path, kafka: EmbeddedKafka, topics: Topics
) -> None:
    assert ensemble("topics", "create", "-c", config).returncode == 0
    says: Says = {("a", "0"): "HEALTHY", ("a", "1"): "HEALTHY", ("b", "0"): "FAILED"}
    with (
        combiners(kafka, topics.prefix + "health", says),
        running("monitor", "-c", config) as monitor,
    ):
        url = monitor.metrics_url()
        await_metric(url, state_line("a", "HEALTHY", "1.0"))
        await_metric(url, state_line("b", "FAILED", "1.0"))
        await_metric(url, state_line("b", "HEALTHY", "0.0"))
        with urlopen(url, timeout=WAIT_S) as answer:
            page = answer.read().decode()
        left_out = 'ensemble_monitor_bad_health_total{reason="%s"}'
        assert left_out % "no record" in page
        assert left_out % "unknown model" in page
        assert "stranger" not in page
        with urlopen(url.replace("metrics", "readyz"), timeout=WAIT_S) as answer:
            assert answer.status == 200
        says["a", "1"] = "DEGRADED"
        await_metric(url, state_line("a", "DEGRADED", "1.0"))
        await_metric(url, state_line("a", "HEALTHY", "0.0"))
        del says["a", "1"]  # it dies; its view expires
        await_metric(url, state_line("a", "HEALTHY", "1.0"))
        assert monitor.terminate() == 0
    # The next one knows what this one knew, and goes on.
    says["a", "0"] = "PROBING"
    with (
        combiners(kafka, topics.prefix + "health", says),
        running("monitor", "-c", config) as monitor,
    ):
        await_metric(monitor.metrics_url(), state_line("a", "PROBING", "1.0"))


def test_without_the_topic_it_says_how_to_make_it(config: Path, topics: Topics) -> None:
    done = ensemble("monitor", "-c", config)
    assert done.returncode == 5
    assert done.stderr.splitlines()[-1] == (
        f"error: topic {topics.prefix}health does not exist; make it with `ensemble topics create`"
    )


def test_the_lag_of_the_combiners_is_shown(
    config: Path, kafka: EmbeddedKafka, topics: Topics
) -> None:
    assert ensemble("topics", "create", "-c", config).returncode == 0
    events = topics.prefix + "events"
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(10):
        producer.produce(events, b"{}", partition=1)
    producer.flush(WAIT_S)
    group = Identity(f"{topics.prefix}ensemble", "0").group
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(events, 1, 3)], asynchronous=False)
    consumer.close()
    with running("monitor", "-c", config) as monitor:
        await_metric(monitor.metrics_url(), f'ensemble_lag_records{{topic="{events}"}} 7.0')
