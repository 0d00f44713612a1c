"""A worker process with fake models on a real broker, seen from outside.

As a program it is the worker: `python -m tests.workers.worker_kit SETTINGS SLOT`.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from cli.restarts import predecessor_exit
from cli.stopping import leave, leaving_for_good
from streams.errors import EnsembleError
from streams.events import EventDecoder
from streams.features import Feature, FeatureSchema
from streams.frames import PredictionFrame, decode_frames
from streams.metrics import Metrics, serve
from streams.records import ControlRecord
from streams.settings import Settings
from streams.sink import Sink
from workers.crew import Crew
from workers.service import WorkerProcess

log = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent.parent
SCHEMA = FeatureSchema((Feature("x"), Feature("n", required=False)))
PARTITIONS = 2
# A process imports for seconds on a loaded machine; nothing here waits for time to pass.
TIMEOUT_S = 60.0


class Worker:
    """A running process."""

    def __init__(self, settings: Settings, slot: str, log: Path, gate: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", __name__, settings.model_dump_json(), slot]
        environment = {**os.environ, "GATE": str(gate), "PYTHONPATH": str(ROOT)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output
            )

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running: {self.log.read_text()}") from None

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Live:
    """Topics of one test, and what is written to and read from them."""

    def __init__(self, servers: str, make_topic: Callable[..., str], directory: Path) -> None:
        self.directory = directory
        self.gate = directory / "gate"
        self.topics = {
            "inputs": [make_topic("events", PARTITIONS)],
            "predictions": make_topic("predictions", PARTITIONS),
            "control": make_topic("control", cleanup_policy="compact"),
        }
        self.servers = servers
        self.events, self.predictions = self.topics["inputs"][0], self.topics["predictions"]
        self.ensemble = self.events.removesuffix("-events")
        self.workers: list[Worker] = []
        self.written: list[tuple[int, int]] = []
        self._next = [0] * PARTITIONS
        self._sink = Sink(self.settings(["honest"]).kafka)
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"{self.ensemble}-reader",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.assign([TopicPartition(self.predictions, p, 0) for p in range(PARTITIONS)])
        self.frames: list[PredictionFrame] = []

    def settings(self, models: Sequence[str], **tuning: int | str) -> Settings:
        """Models are functions of `tests.workers.fake_models`, or of `MODULE:NAME`."""
        split = (model.rpartition(":") for model in models)
        modules = {name: module or "tests.workers.fake_models" for module, _, name in split}
        return Settings.model_validate(
            {
                "ensemble": {"name": self.ensemble},
                "kafka": {"bootstrap_servers": self.servers},
                "topics": self.topics,
                "models": [
                    {"name": n, "callable": f"{module}:{n}", "version": "1"}
                    for n, module in modules.items()
                ],
                "workers": [{"name": "w", "models": list(modules)}],
                "worker": {"state_directory": str(self.directory / "state"), **tuning},
                "metrics": {"worker_port": 0},
            }
        )

    def start(self, models: Sequence[str], slot: str = "", **tuning: int) -> Worker:
        log = self.directory / "worker.log"
        worker = Worker(self.settings(models, **tuning), slot, log, self.gate)
        self.workers.append(worker)
        return worker

    def write(self, xs: Sequence[float | bytes | None]) -> None:
        """One event for each x, in turn on each partition; bytes are written as they are."""
        for i, x in enumerate(xs):
            partition = i % PARTITIONS
            value = x if isinstance(x, bytes) else json.dumps({"x": x}).encode()
            self._sink.produce(self.events, value=value, partition=partition)
            self.written.append((partition, self._next[partition]))
            self._next[partition] += 1
        self._sink.flush(TIMEOUT_S)

    def control(self, model: str, *, paused: bool) -> None:
        value = msgspec.json.encode(ControlRecord(model, paused))
        self.control_bytes(model.encode(), value)

    def control_bytes(self, key: bytes, value: bytes | None) -> None:
        self._sink.produce(self.topics["control"], key=key, value=value)
        self._sink.flush(TIMEOUT_S)

    def read_until(self, enough: Callable[[], bool]) -> None:
        """Read predictions until `enough`; fails with the worker's log when it takes too long."""
        give_up = time.monotonic() + TIMEOUT_S
        while not enough():
            for message in self._consumer.consume(100, 0.05):
                assert message.error() is None, message.error()
                frames = decode_frames(message.value())
                assert message.key() == ",".join(frame.model for frame in frames).encode()
                for frame in frames:
                    assert message.partition() == frame.partition
                    assert frame.topic == self.events
                self.frames += frames
            if time.monotonic() > give_up:
                log = (self.directory / "worker.log").read_text()
                raise AssertionError(f"only {Counter(self.answers('all'))}\n{log}")

    def answers(self, model: str) -> dict[tuple[int, int], list[float | str]]:
        """By event, everything that a model said of it: scores and reasons."""
        found: dict[tuple[int, int], list[float | str]] = {}
        for frame in self.frames:
            if model in {frame.model, "all"}:
                for place, offset in enumerate(frame.offsets.tolist()):
                    value = float(frame.scores[place])
                    said = frame.refusals[place] if np.isnan(value) else value
                    found.setdefault((frame.partition, offset), []).append(said)
        return found

    def read_answers(self, models: Sequence[str], count: int) -> None:
        """Read until each of the models has answered so many events."""
        self.read_until(lambda: all(len(self.answers(model)) >= count for model in models))

    def committed(self) -> list[int]:
        """The offset that is committed for each input partition; 0 without one."""
        consumer = Consumer(
            {"bootstrap.servers": self.servers, "group.id": f"{self.ensemble}.worker.w"}
        )
        places = [TopicPartition(self.events, p) for p in range(PARTITIONS)]
        offsets = [max(place.offset, 0) for place in consumer.committed(places, TIMEOUT_S)]
        consumer.close()
        return offsets

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self._sink.close()
        self._consumer.close()


def main(settings_json: str, slot: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s:%(name)s:%(message)s")
    settings = Settings.model_validate_json(settings_json)
    ended = predecessor_exit(os.environ)
    crew = Crew(settings, "w", slot, settings.models, None, len(SCHEMA), ended)
    models, decoder = crew.load(), EventDecoder(SCHEMA)
    process = WorkerProcess(settings, "w", slot, models, decoder, Metrics(), crew.witness)
    server = serve(process.metrics, "127.0.0.1", 0, lambda: process.ready)
    log.info("port %d", server.port)
    try:
        with leaving_for_good():
            process.run()
    except EnsembleError as error:
        log.error("%s", error)  # noqa: TRY400 -- its one line says it all
        return error.exit_code
    finally:
        crew.witness.close()
    return 0


if __name__ == "__main__":
    leave(main(*sys.argv[1:]))
