"""What an event costs as the ensemble grows: with models, with partitions, with processes.

    python -m benchmarks.scale [--models 5,20,50,100] [--partitions 1,4,16] [--processes 1,2,4]
        [--events 200000] [--broker SERVERS] [--smoke]

One factor at a time, from five models, four partitions, one worker and one combiner on; workers
and combiners are multiplied one after the other. A real broker, exactly once, JSON events of 30
features, and small models (logistic regressions), so that what is seen is the way of an event and
not the models. All of them are in one worker group, whose processes share the partitions.

Each line is a backlog that lies there before any process starts, from the moment the first worker
is ready to the last score. CPU is of all processes of a role together without their start, for one
event (and in the last column for one prediction); memory is the most they had. The rate is what was
left of the machine by broker and reader: with more processes than cores it says little, and the
cost says what they would do with cores of their own. Scores that are not of all members are
counted: there should be none.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.pipelines.ours import Ours
from benchmarks.pipelines.processes import Cost
from benchmarks.pipelines.rig import Arrivals, Rig, rig
from benchmarks.pipelines.small import small_bundle

# Members of a group that start together share the partitions from the first record on: without
# this the first one begins with all of them, and gives them away while it is measured.
TOGETHER = {"group.initial.rebalance.delay.ms": "2000"}
HEAD = (
    "models partitions workers combiners   events/s predictions/s "
    "worker us combiner us worker MB combiner MB fallbacks us a prediction"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured; one that says nothing else is what the others are held against."""

    models: int = 5
    partitions: int = 4
    workers: int = 1
    combiners: int = 1

    @property
    def name(self) -> str:
        """What its topics begin with."""
        return f"scale-{self.models}-{self.partitions}-{self.workers}-{self.combiners}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out; `fallbacks` are scores that are not of all members."""

    events_per_s: float
    fallbacks: int
    costs: Mapping[str, Cost]

    def of_role(self, role: str) -> Cost:
        """All processes of a role together."""
        found = [cost for name, cost in self.costs.items() if name.startswith(role)]
        return Cost(sum(cost.cpu_us for cost in found), sum(cost.memory_mb for cost in found))


def cells(
    models: Sequence[int], partitions: Sequence[int], processes: Sequence[int]
) -> Sequence[Cell]:
    """One factor at a time; what they have in common is there once."""
    found = [Cell(models=number) for number in models]
    found += [Cell(partitions=number) for number in partitions]
    found += [Cell(workers=number) for number in processes]
    found += [Cell(combiners=number) for number in processes]
    return list(dict.fromkeys(found))


def measure(environment: Rig, cell: Cell, events: int) -> Figures:
    """One backlog."""
    ours = Ours(
        cell.name, copies=cell.workers, combiners=cell.combiners, partitions=cell.partitions
    )
    config = ours.write(environment)
    environment.fill(ours.events, ours.partitions, events)
    out = environment.directory / f"{ours.name}.npz"
    reader = environment.reader(ours.scored, events, out)
    with ours.running(environment, config) as running:
        found = running.costs(running.usage_while(reader), events)
        began_ns = running.ready_ns("worker")
    arrivals = Arrivals.load(out)
    assert arrivals.lost(events) == 0, f"{arrivals.lost(events)} events have no score"
    return Figures(arrivals.rate_since(began_ns), arrivals.fallbacks, found)


def line(cell: Cell, figures: Figures) -> str:
    """A line of the table."""
    worker, combiner = figures.of_role("worker"), figures.of_role("combiner")
    rate = figures.events_per_s
    return (
        f"{cell.models:6d} {cell.partitions:10d} {cell.workers:7d} {cell.combiners:9d} "
        f"{rate:10,.0f} {rate * cell.models:13,.0f} "
        f"{worker.cpu_us:9.1f} {combiner.cpu_us:11.1f} "
        f"{worker.memory_mb:9.0f} {combiner.memory_mb:11.0f} {figures.fallbacks:9d} "
        f"{(worker.cpu_us + combiner.cpu_us) / cell.models:15.2f}"
    )


def numbers(text: str) -> list[int]:
    """From `1,2,4`."""
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    """Measure each, one after another."""
    parser = argparse.ArgumentParser(description="cost of an event against the ensemble's size")
    parser.add_argument("--models", type=numbers, default=[5, 20, 50, 100])
    parser.add_argument("--partitions", type=numbers, default=[1, 4, 16])
    parser.add_argument("--processes", type=numbers, default=[1, 2, 4])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--broker", default="", help="one that runs; else one is started")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    wanted = cells(options.models, options.partitions, options.processes)
    if options.smoke:
        wanted, options.events = [Cell(partitions=2, workers=2)], 2000
    with tempfile.TemporaryDirectory() as name:
        bundles = {
            count: small_bundle(Path(name) / str(count), count)
            for count in {cell.models for cell in wanted}
        }
        first = bundles[wanted[0].models]
        with rig(first, servers=options.broker, properties=TOGETHER) as environment:
            print(HEAD, flush=True)
            for cell in wanted:
                figures = measure(
                    replace(environment, bundle=bundles[cell.models]), cell, options.events
                )
                print(line(cell, figures), flush=True)


if __name__ == "__main__":
    main()
