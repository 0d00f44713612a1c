"""What combining costs: microseconds an event, for each strategy, batch size and task, on one core.

    python benchmarks/combine.py [--members 5] [--seconds 0.3] [--smoke]

Answers are made up, one in ten of them absent, so that many subsets of members stand in a batch.
A line is the median over the calls of one case; `combine` alone makes the score, `explained` is
that and each member's contribution. Every strategy is defined for batches as a whole, and its cost
is the same whatever the answers are.

Not measured: calibrating, labelling, encoding. Every strategy should stay below 2 µs an event for
five members, binary or regression, in batches of 500 and more; the figures of a machine that does
something else besides are no figures.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from combiner.catalogue import catalogue, strategy_named
from combiner.strategies.protocol import Bools, Floats, Ingredients, Strategy, UsesFeatures
from lab.combining import masks
from registry.manifest import (
    Artefact,
    DataFingerprint,
    Manifest,
    MetaInput,
    ModelEntry,
    Stacking,
    StackingFit,
    Task,
)
from streams.features import Feature, FeatureSchema

BATCHES = (500, 2000)
CLASSES: dict[Task, tuple[str, ...]] = {
    "binary": (),
    "multiclass": ("low", "middle", "high"),
    "regression": (),
}
FEATURES = 20
ABSENT_SHARE = 0.1
LEAST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """What came out, in microseconds an event."""

    strategy: str
    task: Task
    batch: int
    combine_us: float
    explained_us: float


def manifest_of(task: Task, members: int) -> Manifest:
    """A bundle that has everything any strategy asks for, with made-up numbers."""
    names = [f"model-{i}" for i in range(members)]
    columns = len(CLASSES[task]) or 1
    levels = tuple(np.linspace(0.0, 1.0, 101).tolist())
    shares = tuple([1 / columns] * columns)
    return Manifest(
        schema=FeatureSchema(tuple(Feature(f"f{i}") for i in range(FEATURES))),
        models=tuple(
            ModelEntry(name, "lightgbm", Artefact(f"{name}.txt", "0" * 64), (), {})
            for name in names
        ),
        calibrations={},
        stacking=stacking_of(names, columns, ()),
        quantiles=dict.fromkeys(names, (levels,) * columns if columns > 1 else levels),
        golden_rows=(),
        metrics={},
        data=DataFingerprint(
            "0" * 64,
            1,
            "y",
            0.5 if task == "binary" else None,
            shares if task == "multiclass" else None,
            0.5 if task == "regression" else None,
        ),
        libraries={},
        task=task,
        classes=CLASSES[task],
        blending=dict.fromkeys(names, 1 / members),
        quality={name: -float(i) for i, name in enumerate(names)},
        stacking_with_features=stacking_of(
            names, columns, tuple(MetaInput(i, 0.0, 1.0) for i in range(FEATURES))
        ),
    )


def stacking_of(names: Sequence[str], columns: int, inputs: tuple[MetaInput, ...]) -> Stacking:
    """Meta-models for as many subsets as training makes."""

    def fit(mask: str) -> StackingFit | tuple[StackingFit, ...]:
        one = StackingFit(-0.1, (0.3,) * (mask.count("1") * columns + len(inputs)))
        return (one,) * columns if columns > 1 else one

    size = len(names) * columns
    return Stacking(
        tuple(names),
        {mask: fit(mask) for mask in masks(len(names))},
        (0.0,) * size,
        tuple(map(tuple, np.eye(size).tolist())),
        columns,
        inputs,
    )


def made_up(task: Task, members: int, batch: int) -> tuple[Floats, Bools, Floats]:
    """Answers, who is present, and features."""
    rng = np.random.default_rng(7)
    answers = rng.random((batch, members, len(CLASSES[task]) or 1))
    if task == "multiclass":
        answers /= answers.sum(axis=2, keepdims=True)
    present = rng.random((batch, members)) >= ABSENT_SHARE
    present[:, 0] |= ~present.any(axis=1)
    answers[~present] = np.nan
    return answers, present, rng.normal(size=(batch, FEATURES))


def cases(members: int) -> Iterator[tuple[Strategy, Task]]:
    """Every strategy for every task that it is defined for."""
    for task in CLASSES:
        ingredients = Ingredients(
            models=[f"model-{i}" for i in range(members)],
            reserves=np.zeros(members, dtype=np.bool_),
            weights=np.linspace(1.0, 2.0, members),
            threshold=0.5,
            trim_share=0.2,
            manifest=manifest_of(task, members),
        )
        for name, found in sorted(catalogue().items()):
            if task in found.tasks:
                yield strategy_named(name, ingredients), task


def median_us(call: Callable[[], object], events: int, seconds: float) -> float:
    """Microseconds an event, the median of calls for about so long."""
    call()
    took: list[float] = []
    started = time.perf_counter()
    while len(took) < LEAST_CALLS or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) / events * 1e6


def measure(strategy: Strategy, task: Task, members: int, batch: int, seconds: float) -> Figure:
    """Run one case."""
    answers, present, features = made_up(task, members, batch)
    if isinstance(strategy, UsesFeatures):
        strategy = strategy.given(features)
    combined = strategy.combine(answers, present)
    assert np.isfinite(combined).all(), "a strategy read what is absent"

    def explained() -> None:
        strategy.combine(answers, present)
        strategy.contributions(answers, present)

    return Figure(
        strategy.name,
        task,
        batch,
        median_us(lambda: strategy.combine(answers, present), batch, seconds),
        median_us(explained, batch, seconds),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="cost of combining, one core")
    parser.add_argument("--members", type=int, default=5, help="how many answer (5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each figure (0.3)")
    parser.add_argument("--smoke", action="store_true", help="a few calls of each, to see it work")
    options = parser.parse_args(arguments)
    seconds = 0.0 if options.smoke else options.seconds
    print(f"{'strategy':<24} {'task':<11} {'batch':>6} {'combine':>9} {'explained':>10}  µs/event")
    for strategy, task in cases(options.members):
        for batch in (20,) if options.smoke else BATCHES:
            found = measure(strategy, task, options.members, batch, seconds)
            print(
                f"{found.strategy:<24} {found.task:<11} {found.batch:>6} "
                f"{found.combine_us:>9.3f} {found.explained_us:>10.3f}"
            )


if __name__ == "__main__":
    main()
