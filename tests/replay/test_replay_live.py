"""`ensemble replay` with a real broker: the same answers as live, and the same bytes twice."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from chaos.plan import PARTITIONS
from chaos.reader import read_all
from chaos.verdict import Outcome
from streams.embedded import EmbeddedKafka
from tests.cli.cli_kit import ensemble, write_config
from tests.combiner.live_kit import Live, frames_of
from tests.conftest import Topics

EXTERNAL = '[[models]]\nname = "{}"\nexternal = true\nversion = "1"\n'
# So patient that only models that say nothing are missing, however busy the machine is.
DEADLINE_MS = 1500
COUNT = 60  # events of a phase
GOOD = 5 * COUNT + PARTITIONS


class Past:
    """What a system has done: two models in time, a third one late, silent or refusing at times."""

    def __init__(self, kafka: EmbeddedKafka, topics: Topics, directory: Path) -> None:
        self.live = Live(kafka.bootstrap_servers, topics, directory)
        models = "".join(EXTERNAL.format(name) for name in "abc")
        self.config = self.configure(topics, directory, models)
        self.reader = self.live.reader()

    def configure(self, topics: Topics, directory: Path, models: str) -> Path:
        """A configuration with other models."""
        path = write_config(
            directory, self.live.servers, topics,
            '[event]\nid = "id"\n[combiner]\nstrategy = "weighted_mean"\nexplain = true\n'
            f"deadline_ms = {DEADLINE_MS}\n", models,
        )  # fmt: skip
        name, mine = topics.prefix, self.live.events.removesuffix("events")
        text = path.read_text().replace('dead_letters"', 'dead-letters"')
        text = text.replace(f"{name}ensemble", self.live.ensemble).replace(f'"{name}', f'"{mine}')
        path.write_text(text.replace("[ensemble]", f'[ensemble]\nbundle = "{self.live.bundle}"'))
        return path

    def live_through(self) -> None:
        live = self.live
        models = live.models("a", "b", "c")
        tables: dict[str, Any] = {
            "combiner": {"deadline_ms": DEADLINE_MS, "explain": True},
            "cache": {"url": "memory://"},
        }
        live.start(live.settings(["a", "b", "c"], **tables))
        # What lay there before the combiner came is backlog, and that is not a matter of time.
        self._send("backlog", PARTITIONS)
        self._send("all", COUNT)
        models.behaviour["c"] = "silent"
        self._send("late", COUNT)
        # Its answers come when the scores are out, and are in the log all the same.
        for partition in range(PARTITIONS):
            each = range(1 + COUNT // PARTITIONS, 1 + 2 * COUNT // PARTITIONS)
            for frame in frames_of("answers", "c", live.events, partition, each):
                live.send_frame(frame)
        live.flush()
        models.behaviour["c"] = "refuses"
        self._send("refused", COUNT)
        models.behaviour = dict.fromkeys(models.behaviour, "silent")
        self._send("none", COUNT)
        models.behaviour = dict.fromkeys(models.behaviour, "answers")
        live.send(b"no event", 1)
        self._send("again", COUNT)

    def _send(self, name: str, count: int) -> None:
        for number in range(count):
            # Entities come again, so that there is something in the cache.
            self.live.send(
                {"id": f"{name}-{number}", "x": number}, number % PARTITIONS, b"k%d" % (number % 40)
            )
        self.live.await_outcomes(self.reader)

    def replay(self, *arguments: str | Path, config: Path | None = None) -> dict[str, Any]:
        done = ensemble("replay", "--json", *arguments, "-c", config or self.config)
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts

    def published(self) -> dict[str, bytes]:
        """The scores of the system, by event."""
        return {
            found.source: message_of(found).value() or b""
            for found in self.reader.outcomes
            if found.record
        }


def message_of(found: Outcome) -> "Message[bytes, bytes]":
    assert isinstance(found.message, Message)
    return found.message


@pytest.fixture(scope="module")
def past(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    past = Past(kafka, Topics(kafka.bootstrap_servers), tmp_path_factory.mktemp("past"))
    try:
        past.live_through()
        yield past
    finally:
        past.live.close()


def lines_of(file: Path) -> dict[str, bytes]:
    lines = file.read_bytes().splitlines()
    found = {json.loads(line)["source"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def test_as_recorded_every_byte_is_as_it_was_published(past: Past, tmp_path: Path) -> None:
    published = past.published()
    assert {json.loads(value)["fallback"] for value in published.values()} >= {
        "none", "partial", "cached",
    }  # fmt: skip
    facts = past.replay("--as-recorded", "--compare", "--out", tmp_path / "out.jsonl")
    assert lines_of(tmp_path / "out.jsonl") == published
    assert facts["events"] == GOOD + 1
    assert facts["dead_letters"] == {"NotJson": 1}
    assert facts["agreement"] == {
        "compared": GOOD, "same_label": 1.0, "same_score": 1.0, "same_rung": 1.0,
        "largest_difference": 0.0, "mean_difference": 0.0, "other_rungs": {},
        "only_published": 0, "only_replayed": 0, "published_twice": 0,
    }  # fmt: skip
    assert "answers_not_found" not in facts
    assert "events_without_record" not in facts
    assert facts["sha256"] == hashlib.sha256((tmp_path / "out.jsonl").read_bytes()).hexdigest()


@pytest.mark.parametrize("how", [(), ("--as-recorded",)])
def test_twice_is_the_same_to_the_byte(past: Past, tmp_path: Path, how: tuple[str, ...]) -> None:
    first, second = (tmp_path / name for name in ("first.jsonl", "second.jsonl"))
    facts = [past.replay(*how, "--out", file) for file in (first, second)]
    assert first.read_bytes() == second.read_bytes()
    assert facts[0]["sha256"] == facts[1]["sha256"]
    assert facts[0]["scored"] == len(lines_of(first)) == GOOD


def test_on_the_virtual_clock_the_deadline_decides_again(past: Past, tmp_path: Path) -> None:
    published = [json.loads(value) for value in past.published().values()]
    # When nobody is waited for, it is a race whose answers are there: that is left out.
    until = min(r["event_time"] for r in published if r["id"].startswith("again"))
    facts = past.replay(
        "--from", ",".join(f"{p}:1" for p in range(PARTITIONS)), "--to", until, "--compare",
        "--out", tmp_path / "out.jsonl",
    )  # fmt: skip
    agreement = facts["agreement"]
    assert agreement["compared"] == 4 * COUNT
    # Nobody was near the deadline: answers came at once, or long after it.
    assert agreement["same_rung"] == 1.0, json.dumps(facts)[300:]
    assert agreement["same_score"] == 1.0, agreement
    records = [json.loads(line) for line in lines_of(tmp_path / "out.jsonl").values()]
    late = [r for r in records if r["id"].startswith("late")]
    assert {str(r["models"]) for r in late} == {"['a', 'b']"}
    assert {r["missing"]["c"] for r in late} <= {"late", "failed"}
    # Who waited, waited for the deadline, in ticks of 10 ms.
    waited = [r["latency_ms"] for r in late if r["missing"] == {"c": "late"}]
    assert all(DEADLINE_MS <= latency <= DEADLINE_MS + 20 for latency in waited)
    assert waited


def test_a_stretch_by_offsets_and_by_time(past: Past, tmp_path: Path) -> None:
    offsets = past.replay("--from", "0:3,2:5", "--to", "0:9,2:1000", "--as-recorded")
    assert offsets["stretches"] == {
        f"{past.live.events}/0": [3, 9],
        f"{past.live.events}/2": [5, GOOD // PARTITIONS],
    }
    published = [json.loads(value) for value in past.published().values()]
    [middle] = [r["event_time"] for r in published if r["id"] == "late-0"]
    before, after = (past.replay("--to", middle), past.replay("--from", middle))
    assert before["events"] + after["events"] == GOOD + 1
    assert COUNT <= before["events"] <= COUNT + PARTITIONS
    nothing = ensemble("replay", "--from", "end", "-c", past.config)
    assert (nothing.returncode, nothing.stderr) == (
        4, "error: no events between the given bounds\n",
    )  # fmt: skip


def test_to_a_topic_of_its_own(past: Past, kafka: EmbeddedKafka) -> None:
    topics = Topics(kafka.bootstrap_servers)
    mine = topics("replayed", PARTITIONS)
    past.replay("--as-recorded", "--to-topic", mine)
    found = read_all(past.live.servers, [mine], PARTITIONS)
    assert {o.source: message_of(o).value() for o in found} == past.published()
    keys = {o.source: message_of(o).key() for o in past.reader.outcomes}
    assert all(keys[o.source] == message_of(o).key() for o in found)
    refused = ensemble("replay", "--to-topic", past.live.scored, "-c", past.config)
    assert refused.returncode == 2
    assert "is a topic of the configuration" in refused.stderr


def test_another_ensemble_scores_the_past(past: Past, tmp_path: Path) -> None:
    """One model of our own instead of two, the third one as it answered then."""
    (tmp_path / "halves.py").write_text(
        "def half(matrix):\n    return matrix[:, 0] / 200\n", encoding="utf-8"
    )
    config = past.configure(
        Topics(past.live.servers), tmp_path,
        '[[models]]\nname = "own"\ncallable = "halves:half"\nversion = "1"\n'
        '[[workers]]\nname = "w"\nmodels = ["own"]\n' + EXTERNAL.format("c"),
    )  # fmt: skip
    facts = past.replay("--rescore", "--compare", "--out", tmp_path / "out.jsonl", config=config)
    assert facts["agreement"]["compared"] == GOOD
    for record in map(json.loads, lines_of(tmp_path / "out.jsonl").values()):
        number = int(record["id"].rpartition("-")[2])
        assert record["predictions"]["own"] == number / 200
        assert record["latency_ms"] == 0.0
        with_c = record["id"].startswith(("backlog", "all", "late", "again"))
        assert record["models"] == (["own", "c"] if with_c else ["own"])
