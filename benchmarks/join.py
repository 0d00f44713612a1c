"""How fast the deadline join is by itself: predictions a second on one core.

    python benchmarks/join.py [--seconds 1.0] [--smoke]

Each turn a batch of events comes, each model answers it in frames of the given size, and the
finished rows leave and are judged. `gaps` are offsets as a transactional producer leaves them, one
number lost after each hundred; `late` has one model answer only after the rows have left.

Not measured: reading and decoding frames, combining, encoding. There is no pass mark, since
machines differ; five models with frames of 500 events should exceed 10 million on any of them.
Smaller frames cost one call each: the combiner merges all that one fetch brings before it joins.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from combiner.answers import Cells
from combiner.join import DeadlineJoin, Ints
from combiner.limits import JoinConfig

MODELS = (5, 20, 100)
FRAME_EVENTS = (50, 500, 2000)
BATCH_EVENTS = 2000
TRANSACTION_EVENTS = 100
DEADLINE_NS = 100_000_000
# One turn stands for this much time, so that several turns are remembered but not yet judged.
TURN_NS = 10_000_000
LEAST_TURNS = 4


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: `gaps` in the offsets, one model `late`."""

    models: int
    frame_events: int
    gaps: bool = False
    late: bool = False

    @property
    def name(self) -> str:
        """What is special about the case."""
        return "gaps" if self.gaps else "late" if self.late else "plain"


@dataclass(frozen=True, slots=True)
class Figure:
    """What came out; `events` is here so that nobody measures a join that does nothing."""

    case: Case
    events: int
    predictions: int
    seconds: float

    @property
    def predictions_per_s(self) -> float:
        """Answers taken in each second."""
        return self.predictions / self.seconds


def cases() -> Iterator[Case]:
    """Sizes first, then the hard cases at five models."""
    for models in MODELS:
        for frame_events in FRAME_EVENTS:
            yield Case(models, frame_events)
    for frame_events in FRAME_EVENTS:
        yield Case(MODELS[0], frame_events, gaps=True)
        yield Case(MODELS[0], frame_events, late=True)


def batch_offsets(case: Case) -> tuple[Ints, int]:
    """Offsets of one batch from 0 on, and what to add for the next."""
    offsets = np.arange(BATCH_EVENTS, dtype=np.int64)
    if case.gaps:
        offsets = offsets + offsets // TRANSACTION_EVENTS
    return offsets, int(offsets[-1]) + 1 + int(case.gaps)


def measure(case: Case, seconds: float) -> Figure:
    """Run one case for about so long, and at least for a few turns."""
    config = JoinConfig(case.models, DEADLINE_NS, DEADLINE_NS, 10 * DEADLINE_NS)
    expected = np.ones(case.models, dtype=np.bool_)
    expected[-1] = not case.late
    join = DeadlineJoin(config, expected)
    offsets, stride = batch_offsets(case)
    scoreable = np.ones(BATCH_EVENTS, dtype=np.bool_)
    scores = np.random.default_rng(7).random(BATCH_EVENTS)
    frames = [
        slice(start, start + case.frame_events)
        for start in range(0, BATCH_EVENTS, case.frame_events)
    ]
    punctual = range(case.models - case.late)
    events = predictions = turn = now_ns = 0
    started = time.perf_counter()
    while turn < LEAST_TURNS or time.perf_counter() - started < seconds:
        now_ns += TURN_NS
        current = offsets + turn * stride
        join.add_events(current, scoreable, 0, now_ns)
        for member in punctual:
            for rows in frames:
                join.add_answers(member, Cells(current[rows], scores[rows], turn), now_ns)
        while (settled := join.settle(now_ns)) is not None:
            events += len(settled)
        if case.late:
            for rows in frames:
                cells = Cells(current[rows], scores[rows], turn)
                join.add_answers(case.models - 1, cells, now_ns)
        join.judge(now_ns)
        predictions += case.models * BATCH_EVENTS
        turn += 1
    return Figure(case, events, predictions, time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="throughput of the deadline join, one core")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line (1.0)")
    parser.add_argument("--smoke", action="store_true", help="a few turns of each, to see it work")
    options = parser.parse_args(arguments)
    print(f"{'models':>6} {'events/frame':>13} {'case':>6} {'M predictions/s':>16}")
    for case in cases():
        figure = measure(case, 0.0 if options.smoke else options.seconds)
        assert figure.events * case.models == figure.predictions, "an event did not leave"
        print(
            f"{case.models:>6} {case.frame_events:>13} {case.name:>6} "
            f"{figure.predictions_per_s / 1e6:>16.1f}"
        )


if __name__ == "__main__":
    main()
