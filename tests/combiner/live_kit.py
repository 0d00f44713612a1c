"""A combiner process on a real broker, seen from outside: events and answers in, outcomes out.

The models are a thread of the test that answers as it is told (`Models`). What came out is counted
by consumers that know nothing of the combiner (`Reader`, `read_all`, `judge`).

As a program it is the combiner: `python -m tests.combiner.live_kit SETTINGS SLOT`.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from cli.pacing import Pace
from cli.stopping import stop_event
from combiner.process import run_combiner
from registry.bundle import write_bundle
from registry.manifest import DataFingerprint, Manifest, Stacking, StackingFit
from streams.errors import BrokerError, EnsembleError, FencedError
from streams.features import Feature, FeatureSchema
from streams.frames import PredictionFrame, encode_frame
from streams.records import Headers
from streams.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SCHEMA = FeatureSchema((Feature("x"), Feature("note", "category", ("a", "b"), required=False)))
PRIOR = 0.25
PARTITIONS = 4
# A process imports for seconds on a loaded machine, a static member that left for good is missed
# after its session: nothing here waits for time to pass.
TIMEOUT_S = 60.0
LARGE_BYTES = 6_000_000
# A client that has lost its broker finds it again, and does not wait for another one.
RECONNECTING: dict[str, str | int] = {
    "metadata.recovery.strategy": "none",
    "reconnect.backoff.max.ms": 200,
}
RETRIABLE = {BrokerError.exit_code, FencedError.exit_code}


def wait_for(reached: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until something holds; fails after a generous time, and says what there is instead."""
    pause = threading.Event()
    give_up_s = time.monotonic() + TIMEOUT_S
    while not reached():
        assert time.monotonic() < give_up_s, what()
        pause.wait(0.01)


# -- counting --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """A scored record or a dead letter.

    Attributes:
        source: `topic/partition/offset` of the event.
        id: of the event; empty in a dead letter.
        content: everything that must not differ between two outcomes of one event.
        place: the partition it was found in, and its offset there.
        message: as it came.
        record: the JSON object; empty in a dead letter.
    """

    source: str
    id: str
    content: str
    place: tuple[str, int, int]
    message: Message
    record: dict[str, Any] = field(default_factory=dict)


@dataclass
class Verdict:
    """What is wrong with a set of outcomes; names are the events'.

    Attributes:
        lost: without an outcome.
        duplicates: one more outcome of the same content, each time.
        contradictory: outcomes of different content.
        strange: outcomes of events that were not expected.
        disordered: first outcomes behind that of a later event of the same partition.
    """

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)


def judge(expected: Collection[str], outcomes: Iterable[Outcome]) -> Verdict:
    """Count the outcomes of events by their source.

    Args:
        expected: events that the broker acknowledged.
        outcomes: in the order of their partitions.
    """
    verdict = Verdict()
    contents: dict[str, set[str]] = {}
    newest: dict[tuple[str, int, str], int] = {}
    for outcome in outcomes:
        source = outcome.source
        before = contents.setdefault(source, set())
        if before:
            known = outcome.content in before
            (verdict.duplicates if known else verdict.contradictory).append(source)
        else:
            if source not in expected:
                verdict.strange.append(source)
            where, _, offset = source.rpartition("/")
            lane = (*outcome.place[:2], where)
            if int(offset) < newest.setdefault(lane, int(offset)):
                verdict.disordered.append(source)
            newest[lane] = max(newest[lane], int(offset))
        before.add(outcome.content)
    verdict.lost = sorted(set(expected) - contents.keys())
    return verdict


def headers_of(message: Message) -> list[tuple[str, str]]:
    """The headers of a record as text, in order."""
    headers = message.headers() or []
    assert isinstance(headers, list)
    return [
        (name, value.decode() if isinstance(value, bytes) else value or "")
        for name, value in headers
    ]


def outcome_of(message: Message) -> Outcome:
    """An outcome from a record of the scored or the dead-letter topic."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    place = (topic, partition, offset)
    headers = dict(headers_of(message))
    if Headers.TOPIC in headers:
        parts = (headers[name] for name in (Headers.TOPIC, Headers.PARTITION, Headers.OFFSET))
        return Outcome("/".join(parts), "", f"dead: {headers[Headers.CLASS]}", place, message)
    record = json.loads(message.value() or b"")
    decided = {name: record[name] for name in ("id", "score", "label", "fallback", "missing")}
    return Outcome(
        record["source"], record["id"], json.dumps(decided, sort_keys=True), place, message, record
    )


def _reading(servers: str, **properties: str | int | bool) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
            **RECONNECTING,
            **properties,
        }
    )


def read_all(servers: str, topics: Sequence[str], partitions: int) -> list[Outcome]:
    """All committed outcomes from the very first, by a consumer of its own."""
    consumer = _reading(servers, **{"enable.partition.eof": True})
    try:
        places = [TopicPartition(topic, p, 0) for topic in topics for p in range(partitions)]
        consumer.assign(places)
        outcomes: list[Outcome] = []
        ended: set[tuple[str | None, int | None]] = set()
        give_up_s = time.monotonic() + TIMEOUT_S
        while len(ended) < len(places):
            assert time.monotonic() < give_up_s, f"only {len(ended)} of {len(places)} partitions"
            for message in consumer.consume(1000, 0.05):
                error = message.error()
                if error is None:
                    outcomes.append(outcome_of(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add((message.topic(), message.partition()))
                else:
                    raise AssertionError(error)
        return outcomes
    finally:
        consumer.close()


class _Thread:
    """A loop on a thread of its own; what it raises is raised by `close`."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=name)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 -- raised where the test looks
            self._failure = error

    def _run(self) -> None:
        raise AssertionError

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


Part = TypeVar("Part", bound=_Thread)


class Reader(_Thread):
    """Reads outcomes while everything runs, as any consumer of the scores would."""

    def __init__(self, servers: str, topics: Sequence[str], partitions: int) -> None:
        super().__init__("reader")
        self.outcomes: list[Outcome] = []
        self.sources: set[str] = set()
        self._consumer = _reading(servers)
        self._consumer.assign(
            [TopicPartition(topic, p, 0) for topic in topics for p in range(partitions)]
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(1, 0.05) + self._consumer.consume(999, 0):
                    if message.error() is None:
                        outcome = outcome_of(message)
                        self.outcomes.append(outcome)
                        self.sources.add(outcome.source)
        finally:
            self._consumer.close()


class Health(_Thread):
    """What the combiners say about the models."""

    def __init__(self, live: "Live") -> None:
        super().__init__("health")
        self.states: dict[str, str] = {}
        self._consumer = _reading(live.servers)
        self._consumer.assign([TopicPartition(live.health, 0, 0)])
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(1, 0.05):
                    if message.error() is None:
                        record = json.loads(message.value() or b"")
                        self.states[record["model"]] = record["state"]
        finally:
            self._consumer.close()

    def await_state(self, model: str, state: str) -> None:
        wait_for(lambda: self.states.get(model) == state, lambda: str(self.states))


# -- the models ------------------------------------------------------------------------------

Behaviour = Literal["answers", "silent", "refuses", "twice", "wrong version", "out of range"]


def answer_of(model: str, offset: int) -> float:
    """What a model says of an event."""
    return (offset * 7 + sum(model.encode()) * 13) % 101 / 100


class Models(_Thread):
    """Answers events as models would, each in its own way, which may change at any time."""

    def __init__(self, live: "Live", names: Sequence[str]) -> None:
        super().__init__("models")
        self.behaviour: dict[str, Behaviour] = dict.fromkeys(names, "answers")
        self._live = live
        self._consumer = _reading(live.servers)
        self._consumer.assign([TopicPartition(live.events, p, 0) for p in range(PARTITIONS)])
        self._producer = Producer(
            {"bootstrap.servers": live.servers, "enable.idempotence": True, **RECONNECTING}
        )
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                offsets: dict[int, list[int]] = {}
                for message in self._consumer.consume(1, 0.05) + self._consumer.consume(499, 0):
                    if message.error() is None:
                        offsets.setdefault(message.partition() or 0, []).append(
                            message.offset() or 0
                        )
                for partition, found in offsets.items():
                    for model, behaviour in list(self.behaviour.items()):
                        for frame in frames_of(
                            behaviour, model, self._live.events, partition, found
                        ):
                            self._live.send_frame(frame, self._producer)
                self._producer.poll(0)
        finally:
            self._consumer.close()
            self._producer.flush(TIMEOUT_S)


def frames_of(
    behaviour: Behaviour, model: str, topic: str, partition: int, offsets: Sequence[int]
) -> list[PredictionFrame]:
    """What a model writes about some events."""
    scores = np.array([answer_of(model, offset) for offset in offsets])
    refusals: dict[int, str] = {}
    version = "1"
    match behaviour:
        case "silent":
            return []
        case "refuses":
            scores = np.full(len(offsets), np.nan)
            refusals = dict.fromkeys(range(len(offsets)), "not today")
        case "wrong version":
            version = "2"
        case "out of range":
            scores = scores + 5.0
    frame = PredictionFrame(
        model, version, topic, partition, np.array(offsets, dtype=np.int64), scores, refusals
    )
    if behaviour == "twice":
        # The first answer holds; the second one says something else.
        again = PredictionFrame(
            model, version, topic, partition, frame.offsets, 1.0 - frame.scores, {}
        )
        return [frame, again]
    return [frame]


# -- the events ------------------------------------------------------------------------------


class Load(_Thread):
    """Sends good events at a steady rate until it is closed."""

    def __init__(self, live: "Live", rate_per_s: float) -> None:
        super().__init__("load")
        self._live = live
        self._rate_per_s = rate_per_s
        self._thread.start()

    def _run(self) -> None:
        pace = Pace(self._rate_per_s, time.monotonic_ns())
        number = 0
        while not self._stop.is_set():
            for _ in range(pace.due(time.monotonic_ns())):
                self._live.send({"id": f"load-{number}", "x": number % 10}, number % PARTITIONS)
                number += 1
            self._live.producer.poll(0)
            self._stop.wait(pace.wait_ns(time.monotonic_ns()) / 1e9)

    def close(self) -> None:
        super().close()
        self._live.flush()


# -- the process -----------------------------------------------------------------------------


class Process:
    """A combiner that runs."""

    def __init__(self, settings: Settings, slot: str, log: Path) -> None:
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", __name__, settings_json(settings), slot]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output
            )

    def said(self) -> str:
        """Its log, without that of earlier processes with the same file."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def await_said(self, part: str, times: int = 1) -> None:
        """Wait until its log holds something."""
        wait_for(lambda: self.said().count(part) >= times, lambda: f"no {part!r}:\n{self.said()}")

    def wait(self) -> int:
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running:\n{self.said()}") from None

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def settings_json(settings: Settings) -> str:
    """All of it: what is secret elsewhere is none in a test."""
    data = settings.model_dump(mode="json")
    data["cache"]["url"] = settings.cache.url.get_secret_value()
    return json.dumps(data)


def make_bundle(directory: Path) -> Path:
    """A bundle without models of its own: all members are somebody else's."""
    manifest = Manifest(
        schema=SCHEMA,
        models=(),
        calibrations={},
        stacking=Stacking((), {"": StackingFit(0.0, ())}, (), ()),
        quantiles={},
        golden_rows=(),
        metrics={},
        data=DataFingerprint("0" * 64, 0, "y", PRIOR),
        libraries={},
    )
    return write_bundle(directory, manifest, {}).directory


class Live:
    """Topics of one test, what is written to them, and the combiners."""

    def __init__(
        self,
        servers: str,
        make_topic: Callable[..., str],
        directory: Path,
        *,
        dead_letter_limit: int = 0,
    ) -> None:
        self.directory, self.servers = directory, servers
        large = {"max_message_bytes": str(LARGE_BYTES)}
        limit = {"max_message_bytes": str(dead_letter_limit)} if dead_letter_limit else {}
        self.events = make_topic("events", PARTITIONS, **large)
        self.predictions = make_topic("predictions", PARTITIONS)
        self.scored = make_topic("scored", PARTITIONS)
        self.dead_letters = make_topic("dead-letters", PARTITIONS, **limit)
        self.health = make_topic("health")
        self.ensemble = self.events.removesuffix("-events")
        self.bundle = make_bundle(directory / "bundle")
        self.producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "linger.ms": 1,
                "message.max.bytes": LARGE_BYTES,
                **RECONNECTING,
            }
        )
        self.acknowledged: set[str] = set()
        self.failed: list[KafkaError] = []
        self.processes: list[Process] = []
        self._parts: list[_Thread] = []

    # -- what runs ---------------------------------------------------------------------------

    def settings(self, models: Sequence[str] = ("a", "b"), **tables: Mapping[str, Any]) -> Settings:
        data: dict[str, Any] = {
            "ensemble": {"name": self.ensemble, "bundle": str(self.bundle)},
            "kafka": {"bootstrap_servers": self.servers},
            "topics": {
                "inputs": [self.events],
                "predictions": self.predictions,
                "scored": self.scored,
                "dead_letters": self.dead_letters,
                "health": self.health,
            },
            "event": {"id": "id"},
            "models": [{"name": name, "external": True, "version": "1"} for name in models],
            "combiner": {"strategy": "weighted_mean"},
            "metrics": {"combiner_port": 0},
        }
        for name, table in tables.items():
            data[name] = {**data.get(name, {}), **table}
        return Settings.model_validate(data)

    def start(self, settings: Settings, slot: str = "0") -> Process:
        """Start a combiner."""
        process = Process(settings, slot, self.directory / f"combiner-{slot}.log")
        self.processes.append(process)
        return process

    def models(self, *names: str) -> Models:
        """Let these models answer from now on, from the first event on."""
        return self._part(Models(self, names))

    def reader(self) -> Reader:
        return self._part(Reader(self.servers, [self.scored, self.dead_letters], PARTITIONS))

    def reported_health(self) -> Health:
        return self._part(Health(self))

    def load(self, rate_per_s: float) -> Load:
        return self._part(Load(self, rate_per_s))

    def _part(self, part: Part) -> Part:
        self._parts.append(part)
        return part

    def close(self) -> None:
        """End everything, whatever fails on the way."""
        with ExitStack() as stack:
            for part in self._parts:
                stack.callback(part.close)
            for process in self.processes:
                stack.callback(process.kill)

    # -- what is written ---------------------------------------------------------------------

    def send(
        self,
        event: Mapping[str, object] | bytes | None,
        partition: int = 0,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Send one event; bytes are sent as they are."""
        value = json.dumps(event).encode() if isinstance(event, Mapping) else event
        self.producer.produce(
            self.events,
            value=value,
            key=key,
            partition=partition,
            headers=list(headers),
            on_delivery=self._delivered,
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        source = f"{message.topic()}/{message.partition()}/{message.offset()}"
        if error is None:
            self.acknowledged.add(source)
        else:
            self.failed.append(error)

    def flush(self) -> None:
        assert self.producer.flush(TIMEOUT_S) == 0
        assert not self.failed, self.failed

    def send_frame(self, frame: PredictionFrame, producer: Producer | None = None) -> None:
        self.send_answer(encode_frame(frame), frame.partition, producer, frame.model.encode())

    def send_answer(
        self,
        value: bytes | None,
        partition: int,
        producer: Producer | None = None,
        key: bytes | None = None,
    ) -> None:
        """Write a record to `predictions`, whatever it is."""
        (producer or self.producer).produce(
            self.predictions, value=value, key=key, partition=partition
        )

    # -- what came out -----------------------------------------------------------------------

    def await_outcomes(self, reader: Reader, *, restarting: Settings | None = None) -> None:
        """Wait until every acknowledged event has an outcome; for when no more are sent.

        With `restarting` the last combiner is started again where a supervisor would do it.
        """
        self.flush()
        self._wait_for(reader, lambda: self.acknowledged <= reader.sources, restarting)

    def await_more(self, reader: Reader, count: int, *, restarting: Settings | None = None) -> None:
        """Wait until so many more outcomes were read."""
        enough = len(reader.outcomes) + count
        self._wait_for(reader, lambda: len(reader.outcomes) >= enough, restarting)

    def _wait_for(
        self, reader: Reader, reached: Callable[[], bool], restarting: Settings | None
    ) -> None:
        def reached_or_hopeless() -> bool:
            if reached():
                return True
            code = self.processes[-1].process.poll()
            if restarting is not None and code in RETRIABLE:
                self.start(restarting)
            else:
                assert self._alive(), self._progress(reader)
            return False

        wait_for(reached_or_hopeless, lambda: self._progress(reader))

    def _alive(self) -> bool:
        return any(process.process.poll() is None for process in self.processes)

    def _progress(self, reader: Reader) -> str:
        logs = "\n".join(
            f"-- {path.name}\n{path.read_text()[-6000:]}"
            for path in sorted(self.directory.glob("combiner-*.log"))
        )
        missing = sorted(self.acknowledged - reader.sources)
        places = Counter(source.rpartition("/")[0] for source in missing)
        return (
            f"{len(reader.outcomes)} outcomes for {len(self.acknowledged)} events; "
            f"missing {dict(places)}, the first ones {missing[:5]}\n{logs}"
        )

    def everything(self) -> list[Outcome]:
        """All committed outcomes, read from the beginning."""
        return read_all(self.servers, [self.scored, self.dead_letters], PARTITIONS)

    def verdicts(self, reader: Reader) -> tuple[Verdict, Verdict]:
        """Of the reader that was there all the time, and of one that starts now."""
        return (
            judge(self.acknowledged, reader.outcomes),
            judge(self.acknowledged, self.everything()),
        )


def main(settings_json: str, slot: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(message)s")
    settings = Settings.model_validate_json(settings_json)
    try:
        with stop_event() as stop:
            run_combiner(settings, slot, stop)
    except EnsembleError as error:
        logging.error("%s", error)  # noqa: LOG015, TRY400 -- its one line says it all
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
