"""How fast one combiner process is: predictions and events a second, with nobody beside it.

    python -m benchmarks.one_combiner [--models 5,100] [--frame-events 100,1000]
        [--events 200000] [--strategy weighted_mean] [--broker SERVERS] [--smoke]

A real broker, exactly once, four partitions. Events and the answers of all models lie in their
topics before the combiner starts: JSON events of 30 features, and frames as workers write them, of
so many events each: workers that clear a backlog write some 1,000 in each, those that keep up with
a stream fewer, the faster they are. The rates run from the moment the combiner is ready to the last
score that was read; broker and reader share the machine. CPU is of the combiner without its start;
`a CPU second` is how many predictions it takes for each second of CPU, whatever else is busy.

The join alone, without reading, decoding, deciding and publishing, is `benchmarks.join`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pipelines.ours import Ours
from benchmarks.pipelines.processes import US_PER_S
from benchmarks.pipelines.rig import Arrivals, Rig, rig
from benchmarks.pipelines.small import small_bundle
from benchmarks.scale import numbers

HEAD = (
    "models events/frame   events/s predictions/s a CPU second "
    "us an event us a prediction     MB fallbacks"
)


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured."""

    models: int
    frame_events: int


def frames_of(
    environment: Rig, ours: Ours, partition: int, events: int, frame_events: int
) -> Iterator[dict[str, Any]]:
    """The records of one partition of the predictions topic: piece by piece, model by model."""
    from registry.bundle import load_manifest
    from streams.frames import PredictionFrame, Timing, encode_frame

    models = load_manifest(environment.bundle).manifest.models
    scores = np.random.default_rng(7).random((len(models), frame_events))
    count = len(range(partition, events, ours.partitions))
    for begin in range(0, count, frame_events):
        offsets = np.arange(begin, min(count, begin + frame_events), dtype=np.int64)
        for model, answers in zip(models, scores, strict=True):
            frame = PredictionFrame(
                model.name,
                model.version,
                ours.events,
                partition,
                offsets,
                answers[: len(offsets)],
                timing=Timing(1.0, 1.0),
            )
            yield {"key": model.name.encode(), "value": encode_frame(frame)}


def measure(environment: Rig, case: Case, events: int, strategy: str) -> str:
    """A line of the table."""
    ours = Ours(f"combiner-{case.models}-{case.frame_events}", strategy=strategy)
    config = ours.write(environment)
    environment.fill(ours.events, ours.partitions, events)
    environment.write(
        ours.predictions,
        (
            list(frames_of(environment, ours, partition, events, case.frame_events))
            for partition in range(ours.partitions)
        ),
    )
    out = environment.directory / f"{ours.name}.npz"
    reader = environment.reader(ours.scored, events, out)
    with ours.running(environment, config, ("combiner",)) as running:
        (cost,) = running.costs(running.usage_while(reader), events).values()
        began_ns = running.ready_ns("combiner")
    arrivals = Arrivals.load(out)
    assert arrivals.lost(events) == 0, f"{arrivals.lost(events)} events have no score"
    rate = arrivals.rate_since(began_ns)
    return (
        f"{case.models:6d} {case.frame_events:12d} {rate:10,.0f} {rate * case.models:13,.0f} "
        f"{case.models / cost.cpu_us * US_PER_S:12,.0f} {cost.cpu_us:11.1f} "
        f"{cost.cpu_us / case.models:15.2f} {cost.memory_mb:6.0f} {arrivals.fallbacks:9d}"
    )


def main() -> None:
    """Measure each, one after another."""
    parser = argparse.ArgumentParser(description="throughput of one combiner process")
    parser.add_argument("--models", type=numbers, default=[5, 100])
    parser.add_argument("--frame-events", type=numbers, default=[100, 1000])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--strategy", default="weighted_mean")
    parser.add_argument("--broker", default="", help="one that runs; else one is started")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    if options.smoke:
        options.models, options.frame_events, options.events = [5], [100], 2000
    with tempfile.TemporaryDirectory() as name:
        bundles = {count: small_bundle(Path(name) / str(count), count) for count in options.models}
        with rig(bundles[options.models[0]], servers=options.broker) as environment:
            print(HEAD, flush=True)
            for models, bundle in bundles.items():
                here = replace(environment, bundle=bundle)
                for frame_events in options.frame_events:
                    case = Case(models, frame_events)
                    print(measure(here, case, options.events, options.strategy), flush=True)


if __name__ == "__main__":
    main()
