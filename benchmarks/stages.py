"""Where the time of an event goes: CPU microseconds of each stage, one core, without Kafka.

    python -m benchmarks.stages [--rows 12,500] [--turns 300] [--bundle DIR] [--compiled]
        [--smoke]

Five trained models, JSON events of 30 features, four partitions, and in each turn so many events
of each: 12 is what a turn finds at 5,000 events a second, 500 what it finds in a backlog. Every
stage is the product's own code on records in memory; fetching and producing, which are the
client's and the broker's, are not in it, and neither is waiting for the interpreter's lock or for
a core. `models` is the predict calls alone; `around the models` is what judges their answers, marks
their calls and counts; the models are asked one after another as in a round.
"""

import argparse
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Message

from benchmarks.pipelines.rig import (
    DISTINCT_EVENTS,
    PARTITIONS,
    TRAINING_ROWS,
    compiled_of,
    event_of,
    events_of,
    labelled,
    train,
)

TURN_NS = 10_000_000
WARM_TURNS = 30
US_PER_S = 1e6
SMOKE_ROWS = 600


class Stages:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """What happens inside is of this stage."""
        began = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - began


class Nowhere:
    """A sink that keeps the last records."""

    def __init__(self) -> None:
        self.values: list[tuple[int, bytes]] = []

    def produce(self, _topic: str, *, value: bytes, partition: int, **_: object) -> None:
        """Keep it."""
        self.values.append((partition, value))


class Worker:
    """What a worker does with a turn's events, stage by stage."""

    def __init__(self, settings: Any, bundle: Any, stages: Stages) -> None:
        from streams.clock import SystemClock
        from streams.mapping import decoder_of
        from streams.metrics import Metrics
        from workers.lane import Lane
        from workers.loading import load_models
        from workers.marks import Witness
        from workers.publishing import Publisher

        self._stages, self._sink = stages, Nowhere()
        self._decoder = decoder_of(bundle.manifest.schema, settings.event)
        metrics, alone = Metrics(), threading.Lock()
        models = load_models(settings.models, bundle)
        witness = Witness(None, {model.name: "" for model in models})
        self._publisher = Publisher("p", self._sink, lambda _: None, metrics)  # type: ignore[arg-type]
        self._lanes = [
            Lane(
                model,
                self._publisher,
                settings.worker.max_batch,
                witness.marks[model.name],
                witness.pasts[model.name],
                alone,
                metrics,
                SystemClock(),
            )
            for model in models
        ]

    def turn(self, messages: Sequence[Message]) -> list[tuple[int, bytes]]:
        """Returns the records for `predictions`, with their partitions."""
        from streams.columns import columns_of
        from workers.batching import Mailbox, RecordBatch

        timed = self._stages.timed
        with timed("worker: records to columns"):
            fetched = columns_of(messages)
        mailbox = Mailbox()
        for columns in fetched:
            with timed("worker: decode to a matrix"):
                decoded = self._decoder.decode(
                    columns.values, columns.keys, columns.timestamps_ms, lambda _row: "-"
                )
            mailbox.put(RecordBatch(*columns.place, columns.offsets, decoded.matrix, 0, 0))
        batch = mailbox.take(len(mailbox))
        for lane in self._lanes:
            with timed("worker: models"):
                lane.model.predict(batch.matrix)
        with timed("worker: around the models"):
            answers = [lane.answer(batch) for lane in self._lanes]
        with timed("worker: frames"):
            self._publisher.publish(batch, answers)
        produced, self._sink.values = self._sink.values, []
        return produced


class Combiner:
    """What a combiner does with a turn's events and answers, stage by stage."""

    def __init__(self, settings: Any, bundle: Any, stages: Stages) -> None:
        from combiner.assembly import block_maker, combiner_of
        from combiner.refining import knowledge_of

        self._stages = stages
        self._block_of = block_maker(settings, bundle.manifest)
        knowledge = knowledge_of(bundle, settings)
        self._core = combiner_of(
            settings, bundle.manifest, "e@1", lambda entities: [None] * len(entities), 0, knowledge
        )
        for partition in range(PARTITIONS):
            self._core.open(("events", partition), 0)
        self._now_ns = 0

    def turn(self, events: Sequence[Message], answers: Sequence[Message]) -> int:
        """Returns how many scores left."""
        from combiner.intake import frames_of
        from streams.columns import columns_of
        from streams.instants import WallMs

        timed, core = self._stages.timed, self._core
        self._now_ns += TURN_NS
        with timed("combiner: records to columns"):
            fetched, answered = columns_of(events), columns_of(answers)
        with timed("combiner: decode ids and times"):
            blocks = [(columns.place, self._block_of(columns)) for columns in fetched]
        with timed("combiner: join, events"):
            for place, block in blocks:
                core.add_events(place, block, self._now_ns)
        with timed("combiner: decode frames"):
            frames = [(columns.place[1], frames_of(columns)[0]) for columns in answered]
        with timed("combiner: join, answers"):
            for partition, found in frames:
                core.add_frames(partition, found, self._now_ns)
        with timed("combiner: decide, encode"):
            outputs = core.advance(self._now_ns, WallMs(0))
        with timed("combiner: positions"):
            core.input_positions(), core.prediction_positions(), core.next_wake_ns()
        return sum(map(len, outputs))


def measure(settings: Any, bundle: Any, events: list[bytes], rows: int, turns: int) -> Stages:
    """Turns of `rows` events of each partition."""
    stages = Stages()
    worker, combiner = Worker(settings, bundle, stages), Combiner(settings, bundle, stages)
    for turn in range(WARM_TURNS + turns):
        if turn == WARM_TURNS:
            stages.seconds.clear()
        offsets = range(turn * rows, (turn + 1) * rows)
        messages = [
            Message(
                topic="events",
                partition=partition,
                offset=offset,
                value=event_of(events, offset * PARTITIONS + partition),
                timestamp=(1, 1),
            )
            for partition in range(PARTITIONS)
            for offset in offsets
        ]
        answers = [
            Message(
                topic="predictions", partition=partition, offset=turn, value=value, timestamp=(1, 1)
            )
            for partition, value in worker.turn(messages)
        ]
        scored = combiner.turn(messages, answers)
        assert scored == len(messages), f"{scored} scores for {len(messages)} events"
    # The models were asked once more, to tell them from what is around them.
    stages.seconds["worker: around the models"] -= stages.seconds["worker: models"]
    return stages


def main() -> None:
    """Print a line for each stage."""
    from registry.bundle import load_manifest
    from streams.settings import Settings

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="12,500")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--compiled", action="store_true", help="the models turned into ONNX")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    turns, training_rows = (20, SMOKE_ROWS) if options.smoke else (options.turns, TRAINING_ROWS)
    matrix, labels = labelled(training_rows)
    with tempfile.TemporaryDirectory() as directory:
        place = options.bundle or train(matrix, labels, Path(directory))
        if options.compiled:
            place = compiled_of(place, Path(directory))
        bundle = load_manifest(place)
        names = [model.name for model in bundle.manifest.models]
        settings = Settings.model_validate(
            {
                "ensemble": {"name": "e", "bundle": str(place)},
                "topics": {"inputs": ["events"], "predictions": "predictions"},
                "event": {"id": "id"},
                "models": [{"name": name} for name in names],
                "workers": [{"name": "w", "models": names}],
                "combiner": {"strategy": "weighted_mean"},
            }
        )
        sizes = [int(rows) for rows in options.rows.split(",")]
        events = events_of(matrix[:DISTINCT_EVENTS])
        found = [measure(settings, bundle, events, rows, turns).seconds for rows in sizes]
    print(
        f"{'us an event, events of a partition in a turn':44s}" + "".join(f"{n:>8d}" for n in sizes)
    )
    counts = [rows * PARTITIONS * turns for rows in sizes]
    lines = {stage: [seconds[stage] for seconds in found] for stage in found[0]}
    lines["all"] = [sum(seconds.values()) for seconds in found]
    for stage, spent in lines.items():
        costs = [seconds / count * US_PER_S for seconds, count in zip(spent, counts, strict=True)]
        print(f"{stage:44s}" + "".join(f"{cost:8.2f}" for cost in costs))


if __name__ == "__main__":
    main()
