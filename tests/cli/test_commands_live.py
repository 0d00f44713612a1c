"""Commands with a real broker and a real Redis."""

import gzip
import json
import shutil
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from cache import keys
from cache.latest import LatestScore, encode_latest
from cache.redis_store import RedisStore
from registry.bundle import LoadedBundle
from streams.embedded import EmbeddedKafka, EmbeddedRedis
from streams.events import BadEvent
from streams.instants import WallMs
from streams.records import ScoredRecord, dead_letter_headers
from tests.cli.cli_kit import WAIT_S, ensemble, running, write_config
from tests.conftest import Topics

NAMES = ("events", "predictions", "scored", "dead_letters", "health", "control")


@pytest.fixture
def config(
    tmp_path: Path,
    kafka: EmbeddedKafka,
    redis_server: EmbeddedRedis,
    topics: Topics,
    bundle: LoadedBundle,
) -> Path:
    """The configuration of the small bundle, with the id as event id."""
    models = "".join(f'[[models]]\nname = "{m.name}"\n' for m in bundle.manifest.models)
    hosted = ", ".join(f'"{m.name}"' for m in bundle.manifest.models)
    path = write_config(
        tmp_path,
        kafka.bootstrap_servers,
        topics,
        f'[cache]\nurl = "{redis_server.url}"\n[event]\nid = "id"',
        f'{models}[[workers]]\nname = "all"\nmodels = [{hosted}]',
    )
    text = path.read_text().replace("[ensemble]", f'[ensemble]\nbundle = "{bundle.directory}"')
    path.write_text(text)
    return path


@pytest.fixture
def made(config: Path) -> Path:
    """The same, with its topics."""
    done = ensemble("topics", "create", "-c", config)
    assert done.returncode == 0, done.stderr
    return config


def records(kafka: EmbeddedKafka, topic: str, count: int) -> list[tuple[str | None, bytes]]:
    """(key, value) of the first records of all partitions."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test"})
    found = consumer.list_topics(topic, WAIT_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in found])
    messages = consumer.consume(count, WAIT_S)
    consumer.close()
    assert len(messages) == count
    return [(m.key() and m.key().decode(), m.value()) for m in messages]


class TestTopics:
    def test_creating_twice_changes_nothing(self, config: Path, topics: Topics) -> None:
        first, second = (ensemble("topics", "create", "-c", config) for _ in range(2))
        prefix = topics.prefix
        assert first.stdout.splitlines() == [
            f"{prefix}events: created, 2 partitions, delete",
            f"{prefix}predictions: created, 2 partitions, delete",
            f"{prefix}scored: created, 2 partitions, delete",
            f"{prefix}dead_letters: created, 2 partitions, delete",
            f"{prefix}health: created, 1 partitions, delete",
            f"{prefix}control: created, 1 partitions, compact",
        ]
        assert second.stdout.splitlines() == [f"{prefix}{name}: exists" for name in NAMES]

    def test_a_topic_that_differs_is_told_and_left(self, config: Path, topics: Topics) -> None:
        topics("events", 3)
        done = ensemble("topics", "create", "-c", config)
        assert done.stdout.splitlines()[0] == f"{topics.prefix}events: exists: 3 partitions, not 2"

    def test_list_and_delete(self, made: Path, topics: Topics) -> None:
        listed = json.loads(ensemble("topics", "list", "--json", "-c", made).stdout)
        assert {t["name"]: (t["partitions"], t["cleanup"]) for t in listed} == {
            topics.prefix + name: (
                1 if name in {"health", "control"} else 2,
                "compact" if name == "control" else "delete",
            )
            for name in NAMES
        }
        assert topics.prefix + "control" in ensemble("topics", "list", "-c", made).stdout
        done = ensemble("topics", "delete", "--yes", "-c", made)
        assert done.stdout.startswith("deleted: ")
        listed = json.loads(ensemble("topics", "list", "--json", "-c", made).stdout)
        assert not any(topic["exists"] for topic in listed)

    def test_without_a_broker_it_is_one_line(self, config: Path) -> None:
        done = ensemble(
            "topics", "list", "-c", config,
            environment={"ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        )  # fmt: skip
        assert done.returncode == 5
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: no Kafka broker answers at 127.0.0.1:1 within 6 s: ")
        assert "Connection refused" in line


class TestCheck:
    def test_all_is_well(self, made: Path) -> None:
        done = ensemble("check", "-c", made)
        assert done.returncode == 0, done.stdout
        assert "✗" not in done.stdout
        assert done.stdout.count("✓") == 13

    def test_each_fault_has_its_row_and_its_advice(
        self, config: Path, kafka: EmbeddedKafka, topics: Topics
    ) -> None:
        topics("events", 3)
        topics("predictions", 2)
        topics("scored", 1)
        topics("control", 1)
        done = ensemble(
            "check", "--json", "-c", config,
            environment={"ENSEMBLE__CACHE__URL": "redis://:pa55word@127.0.0.1:1/0"},
        )  # fmt: skip
        assert done.returncode == 5
        assert "pa55word" not in done.stdout + done.stderr
        found = {row["check"].replace(topics.prefix, ""): row for row in json.loads(done.stdout)}
        assert {name for name, row in found.items() if not row["ok"]} == {
            *("topic events", "topic scored", "topic dead_letters"),
            *("topic health", "topic control", "cache"),
        }
        assert all(row["advice"] for row in found.values() if not row["ok"])
        p = topics.prefix
        assert found["topic events"]["detail"] == f"3 partitions, but {p}predictions has 2"
        assert found["topic scored"]["detail"] == f"1 partitions, but {p}predictions has 2"
        assert found["topic health"]["detail"] == "does not exist"
        assert found["topic health"]["advice"] == "make it with `ensemble topics create`"
        assert "cleanup.policy is delete" in found["topic control"]["detail"]

    def test_a_changed_bundle_is_found(
        self, made: Path, tmp_path: Path, bundle: LoadedBundle
    ) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(bundle.directory, copy)
        artefact = copy / bundle.manifest.models[0].artefact.path
        artefact.write_bytes(artefact.read_bytes() + b"x")
        done = ensemble("check", "-c", made, environment={"ENSEMBLE__ENSEMBLE__BUNDLE": str(copy)})
        assert done.returncode == 3
        assert f"✗ bundle: {artefact}: changed" in done.stdout

    def test_a_wrong_configuration_has_a_row_for_each_mistake(self, tmp_path: Path) -> None:
        path = tmp_path / "ensemble.toml"
        path.write_text("[combiner]\ndeadline_ms = 0\nexplain = 1\n[[models]]\nname = 'a'\n")
        done = ensemble("check", "-c", path)
        assert done.returncode == 2
        assert done.stdout.count("✗ configuration") == 2


class TestProduce:
    def test_rows_become_events_with_keys_and_without_label(
        self, made: Path, kafka: EmbeddedKafka, topics: Topics, data_file: Path
    ) -> None:
        done = ensemble("produce", data_file, "--rate", "0", "--json", "-c", made)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["events"] == 400
        found = records(kafka, topics.prefix + "events", 400)
        events = {key: json.loads(value) for key, value in found}
        assert len(events) == 400
        assert set(events["e1"]) == {"id", "amount", "age", "colour"}
        assert isinstance(events["e1"]["amount"], float)
        assert events["e10"]["age"] is None
        assert events["e7"]["id"] == "e7"

    def test_another_column_can_be_the_key(
        self, made: Path, kafka: EmbeddedKafka, topics: Topics, data_file: Path
    ) -> None:
        arguments = ("--rate", "0", "--key", "colour", "--limit", "50", "-c", made)
        assert ensemble("produce", data_file, *arguments).returncode == 0
        found = records(kafka, topics.prefix + "events", 50)
        assert {key for key, _ in found} == {"red", "green", "blue"}

    def test_a_loop_goes_on_to_its_limit(
        self, made: Path, kafka: EmbeddedKafka, topics: Topics, data_file: Path
    ) -> None:
        arguments = ("--rate", "0", "--loop", "--limit", "1000", "-c", made)
        assert "1,000 events" in ensemble("produce", data_file, *arguments).stdout
        counts = Counter(key for key, _ in records(kafka, topics.prefix + "events", 1000))
        assert counts["e0"] == 3
        assert counts["e399"] == 2

    def test_lines_of_json_are_sent_as_they_are(
        self, made: Path, kafka: EmbeddedKafka, topics: Topics, tmp_path: Path
    ) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b'{"id": "x1"}\n\n{"id": 2}\nno json\n')
        assert ensemble("produce", path, "--rate", "0", "-c", made).returncode == 0
        found = records(kafka, topics.prefix + "events", 3)
        assert sorted(found, key=str) == [
            ("2", b'{"id": 2}'), ("x1", b'{"id": "x1"}'), (None, b"no json"),
        ]  # fmt: skip

    def test_the_rate_is_kept(self, made: Path, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        path.write_bytes(b'{"id": "x"}\n')
        arguments = ("--loop", "--rate", "20000", "--limit", "40000", "--json", "-c", made)
        done = json.loads(ensemble("produce", path, *arguments).stdout)
        assert done["events"] == 40_000
        # A loaded machine may take longer, never shorter.
        assert done["seconds"] >= 1.99

    def test_what_cannot_be_sent_is_one_line(self, made: Path, tmp_path: Path) -> None:
        for name, code in (("none.csv", 4), ("none.jsonl", 4), ("x.txt", 4)):
            done = ensemble("produce", tmp_path / name, "-c", made)
            assert done.returncode == code, done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert done.stderr.startswith("error: ")


class TestConsume:
    @pytest.fixture
    def scored(self, made: Path, kafka: EmbeddedKafka, topics: Topics) -> Path:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for number in range(6):
            record = ScoredRecord(
                f"e{number}", 0.25, 0, 0.5, "x@1", ["a"], {"b": "late"}, "partial",
                "2026-01-01T00:00:00.000Z", 12.34, f"t/0/{number}",
            )  # fmt: skip
            producer.produce(
                topics.prefix + "scored", msgspec.json.encode(record), key=f"e{number}"
            )
        headers = dead_letter_headers([], "t", 1, 7, BadEvent(0, "NotJson", "no JSON at all"), "x")
        producer.produce(topics.prefix + "dead_letters", b"\x1b[31mred", headers=headers)
        assert producer.flush(WAIT_S) == 0
        return made

    def test_a_line_for_each_score(self, scored: Path) -> None:
        lines = ensemble("consume", "-c", scored).stdout.splitlines()
        assert min(lines).split() == [
            *("e0", "0.2500", "0", "50%", "partial", "12.3", "ms", "b:", "late"),
        ]
        assert len(lines) == 6

    def test_raw_and_limited(self, scored: Path) -> None:
        lines = ensemble("consume", "--json", "-n", "4", "-c", scored).stdout.splitlines()
        assert len(lines) == 4
        assert all(json.loads(line)["fallback"] == "partial" for line in lines)

    def test_dead_letters_show_why_and_no_control_characters(
        self, scored: Path, topics: Topics
    ) -> None:
        topic = topics.prefix + "dead_letters"
        done = ensemble("consume", "--topic", topic, "-c", scored)
        assert done.stdout == "t/1/7  NotJson: no JSON at all  '\\\\x1b[31mred'\n"

    def test_following_waits_for_more_until_it_is_stopped(
        self, scored: Path, kafka: EmbeddedKafka, topics: Topics
    ) -> None:
        with running("consume", "--follow", "-c", scored) as command:
            command.await_line("e5")
            producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
            producer.produce(topics.prefix + "scored", b"no score")
            assert producer.flush(WAIT_S) == 0
            assert "no scored record" in command.await_line("no score")
            assert command.terminate() == 0

    def test_a_topic_that_does_not_exist_is_one_line(self, made: Path) -> None:
        done = ensemble("consume", "--topic", "nowhere", "-c", made)
        assert done.returncode == 5
        assert done.stderr.splitlines()[-1].startswith("error: topic nowhere: ")


class TestControl:
    def test_pause_and_resume_are_records_keyed_by_model(
        self, made: Path, kafka: EmbeddedKafka, topics: Topics
    ) -> None:
        assert ensemble("pause", "lightgbm", "-c", made).stdout == "lightgbm: paused\n"
        assert ensemble("resume", "lightgbm", "-c", made).stdout == "lightgbm: resumed\n"
        assert records(kafka, topics.prefix + "control", 2) == [
            ("lightgbm", b'{"model":"lightgbm","paused":true}'),
            ("lightgbm", b'{"model":"lightgbm","paused":false}'),
        ]

    def test_an_unknown_model_is_refused(self, made: Path) -> None:
        done = ensemble("pause", "lightgmb", "-c", made)
        assert done.returncode == 2
        assert done.stderr == (
            "error: lightgmb: no such model; expected one of logistic_regression, lightgbm\n"
        )


class TestGet:
    def test_the_latest_score_of_an_entity(
        self, config: Path, redis_server: EmbeddedRedis, topics: Topics
    ) -> None:
        now_ms = WallMs(time.time_ns() // 1_000_000)
        latest = LatestScore("x@1", 0.75, 1, WallMs(0), now_ms, "e1")
        store = RedisStore(redis_server.url, timeout_ms=2000)
        key = keys.latest(f"{topics.prefix}ensemble", "customer 7")
        store.set_many([(key, encode_latest(latest))], 60)
        store.close()
        done = ensemble("get", "customer 7", "--json", "-c", config)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found.pop("age_ms") < 60_000
        found.pop("scored_at")
        assert found == {
            "entity": "customer 7", "id": "e1", "score": 0.75, "label": 1, "ensemble": "x@1",
            "event_time": "1970-01-01T00:00:00.000Z",
        }  # fmt: skip
        assert "score 0.7500, label 1" in ensemble("get", "customer 7", "-c", config).stdout

    def test_none_is_code_one(self, config: Path) -> None:
        done = ensemble("get", "nobody", "-c", config)
        assert (done.returncode, done.stdout) == (
            1,
            "nobody: no score (never seen, or forgotten)\n",
        )

    def test_memory_cannot_be_asked(self, config: Path) -> None:
        done = ensemble("get", "x", "-c", config, environment={"ENSEMBLE__CACHE__URL": "memory://"})
        assert done.returncode == 2
        assert done.stderr == (
            "error: cache.url: memory:// is inside each process and cannot be asked; "
            "expected a Redis\n"
        )


def test_events_are_read_from_compressed_files_too(
    made: Path, kafka: EmbeddedKafka, topics: Topics, data_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(data_file.read_bytes()))
    assert ensemble("produce", path, "--rate", "0", "-c", made).returncode == 0
    assert len(records(kafka, topics.prefix + "events", 400)) == 400
