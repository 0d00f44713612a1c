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
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from confluent_kafka import KafkaError, Message, Producer

from chaos.plan import PARTITIONS, make_bundle
from chaos.reader import (
    RECONNECTING,
    TIMEOUT_S,
    Background,
    Reader,
    places_of,
    read_all,
    read_messages,
    reading,
    wait_for,
)
from chaos.verdict import Outcome, Verdict, judge
from cli.pacing import Pace
from cli.stopping import stop_event
from combiner.process import run_combiner
from streams.errors import BrokerError, EnsembleError, FencedError
from streams.frames import PredictionFrame, encode_frame
from streams.lifeline import ConsumersLifeline, Lifeline
from streams.settings import KafkaSettings, Settings

ROOT = Path(__file__).parent.parent.parent
LARGE_BYTES = 6_000_000
RETRIABLE = {BrokerError.exit_code, FencedError.exit_code}


Part = TypeVar("Part", bound=Background)


class Listener(Background):
    """Reads a topic from its first record on, whatever becomes of the broker."""

    def __init__(self, name: str, servers: str, topic: str, partitions: int) -> None:
        super().__init__(name)
        self._consumer = reading(servers)
        self._consumer.assign(places_of([topic], partitions))
        self._lost: list[BrokerError] = []
        self._lifeline = ConsumersLifeline(
            KafkaSettings(bootstrap_servers=servers), self._consumer, topic, self._lost.append
        )

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._lost:
                    raise self._lost[0]
                messages = self._consumer.consume(1, 0.05)
                messages += self._consumer.consume(499, 0)
                self._lifeline.serve(heard=bool(messages))
                self._hear([message for message in messages if message.error() is None])
        finally:
            self._lifeline.close()
            self._consumer.close()

    def _hear(self, messages: list[Message]) -> None:
        """What there is; often nothing."""
        raise AssertionError("a listener that does nothing")


def sending(servers: str, topic: str, **properties: str | int | bool) -> tuple[Producer, Lifeline]:
    """A producer that sends what it was given, whatever becomes of the broker."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            **RECONNECTING,
            **properties,
        }
    )
    lifeline = Lifeline(
        KafkaSettings(bootstrap_servers=servers),
        producer,
        lambda wait_s: producer.list_topics(topic, wait_s),
        # One that is lost all the same does not send, which is found where that is waited for.
        lambda _problem: None,
    )
    return producer, lifeline


class Health(Listener):
    """What the combiners say about the models."""

    def __init__(self, live: "Live") -> None:
        super().__init__("health", live.servers, live.health, 1)
        self.states: dict[str, str] = {}
        self._thread.start()

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            record = json.loads(message.value() or b"")
            self.states[record["model"]] = record["state"]

    def await_state(self, model: str, *states: str) -> None:
        wait_for(lambda: self.states.get(model) in states, lambda: str(self.states))


# -- the models ------------------------------------------------------------------------------

# Of every tenth event, which is hard, "slow tenth" thinks for `SLOW_S`, and "waiting tenth" until
# it behaves in another way.
Behaviour = Literal[
    "answers",
    "silent",
    "refuses",
    "twice",
    "wrong version",
    "out of range",
    "slow tenth",
    "waiting tenth",
]
SLOW_S = 0.4


def is_hard(offset: int) -> bool:
    return offset % 10 == 0


def answer_of(model: str, offset: int) -> float:
    """What a model says of an event."""
    return (offset * 7 + sum(model.encode()) * 13) % 101 / 100


class Models(Listener):
    """Answers events as models would, each in its own way, which may change at any time."""

    def __init__(self, live: "Live", names: Sequence[str]) -> None:
        super().__init__("models", live.servers, live.events, PARTITIONS)
        self.behaviour: dict[str, Behaviour] = dict.fromkeys(names, "answers")
        self._live = live
        self._later: deque[tuple[float, list[PredictionFrame]]] = deque()
        self._waiting: list[PredictionFrame] = []
        self._producer, self._sending = sending(live.servers, live.predictions)
        self._thread.start()

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self._producer.flush(TIMEOUT_S)
            self._sending.let_go()

    def _hear(self, messages: list[Message]) -> None:
        offsets: dict[int, list[int]] = {}
        for message in messages:
            offsets.setdefault(message.partition() or 0, []).append(message.offset() or 0)
        for partition, found in offsets.items():
            for model, behaviour in list(self.behaviour.items()):
                self._answer(model, behaviour, partition, found)
        self._send_what_was_kept()
        self._producer.poll(0)

    def _answer(self, model: str, behaviour: Behaviour, partition: int, offsets: list[int]) -> None:
        """Say it, or keep it for later."""
        slow = [o for o in offsets if is_hard(o)] if behaviour.endswith("tenth") else []
        quick = [offset for offset in offsets if offset not in slow]
        events = self._live.events
        for frame in frames_of(behaviour, model, events, partition, quick) if quick else ():
            self._live.send_frame(frame, self._producer)
        if not slow:
            return
        frames = frames_of(behaviour, model, events, partition, slow)
        if behaviour == "waiting tenth":
            self._waiting += frames
        else:
            self._later.append((time.monotonic() + SLOW_S, frames))

    def _send_what_was_kept(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            for frame in self._later.popleft()[1]:
                self._live.send_frame(frame, self._producer)
        if "waiting tenth" not in self.behaviour.values():
            while self._waiting:
                self._live.send_frame(self._waiting.pop(), self._producer)


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


class Load(Background):
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
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running:\n{self.said()}") from None
        # Shown if the test fails.
        sys.stdout.write(f"{self.log.stem} ended with {code}:\n{self.said()}")
        return code

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
        self.producer, self._sending = sending(
            servers, self.events, **{"linger.ms": 1, "message.max.bytes": LARGE_BYTES}
        )
        self.acknowledged: set[str] = set()
        self.failed: list[KafkaError] = []
        self.processes: list[Process] = []
        self._parts: list[Background] = []

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
            stack.callback(self._sending.let_go)
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
        if error is not None:
            self.failed.append(error)
        elif (offset := message.offset()) is not None and offset >= 0:
            # Else the broker had it already, at a place that it does not tell (`count_copies`).
            self.acknowledged.add(f"{message.topic()}/{message.partition()}/{offset}")

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

    def count_copies(self) -> None:
        """Count what the topic holds besides, once all is sent.

        Of a broker that is killed a client may not hear that it had taken something, and send it
        again. Each is an event of its own.
        """
        self.flush()
        self.acknowledged |= {
            f"{self.events}/{message.partition()}/{message.offset()}"
            for message in read_messages(self.servers, [self.events], PARTITIONS)
        }

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
