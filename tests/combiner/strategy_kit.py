"""An ensemble of four members for each task, trained on made-up answers, to make strategies of."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression

from combiner.catalogue import catalogue, strategy_named
from combiner.strategies.arithmetic import logit, logs
from combiner.strategies.protocol import Bools, Floats, Ingredients, Strategy
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

MEMBERS = 4
NAMES = [f"m{i}" for i in range(MEMBERS)]
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.25])
SUBSETS = [here for here in itertools.product([False, True], repeat=MEMBERS) if any(here)]
CLASSES = {"binary": (), "multiclass": ("low", "middle", "high"), "regression": ()}
COLUMNS = {task: len(classes) or 1 for task, classes in CLASSES.items()}
TASKS: list[Task] = ["binary", "multiclass", "regression"]
FEATURES = 2
ROWS = 600


def mask_of(here: Sequence[bool]) -> str:
    return "".join("1" if yes else "0" for yes in here)


@cache
def training_data(task: Task) -> tuple[Floats, Any]:
    """float64[N, M, K] answers and the truth, which they know about in varying degrees."""
    rng = np.random.default_rng(11)
    mix = np.array([[1, 0.4, 0.1, 0], [0, 1, 0.5, 0.2], [0, 0, 1, -0.3], [0, 0, 0, 0.8]])
    noise = rng.normal(size=(ROWS, MEMBERS, COLUMNS[task]))
    noise = np.einsum("nmk,mj->njk", noise, mix)
    if task == "regression":
        truth = rng.normal(3.0, 2.0, ROWS)
        return truth[:, None, None] + noise, truth
    if task == "binary":
        truth = rng.random(ROWS) < 0.4
        return 1 / (1 + np.exp(-(1.6 * truth[:, None, None] - 0.9 + noise))), truth
    truth = rng.choice(3, ROWS, p=[0.5, 0.3, 0.2])
    scores = np.exp(1.5 * (truth[:, None, None] == np.arange(3)) + noise)
    return scores / scores.sum(axis=2, keepdims=True), truth


@cache
def event_features() -> Floats:
    """float64[N, F] of the training rows: a number, sometimes missing, and a category of two."""
    rng = np.random.default_rng(12)
    numbers = rng.normal(5.0, 3.0, ROWS)
    numbers[::50] = np.nan
    return np.column_stack([numbers, rng.integers(0, 2, ROWS)])


INPUTS = (MetaInput(0, 5.0, 3.0), MetaInput(1, 0.5, 0.5, code=0), MetaInput(1, 0.5, 0.5, code=1))


def meta_features(answers: Floats, task: Task) -> Floats:
    """float64[N, M K], what a meta-model takes of the answers."""
    taken = {"binary": logit, "multiclass": logs, "regression": np.array}[task](answers)
    return taken.reshape(len(answers), -1)


def standardised(features: Floats) -> Floats:
    """float64[N, I], by hand."""
    number = np.nan_to_num((features[:, 0] - 5.0) / 3.0)
    first, second = (features[:, 1] == 0) * 2.0 - 1.0, (features[:, 1] == 1) * 2.0 - 1.0
    return np.column_stack([number, first, second])


@cache
def reference(task: Task, mask: str, *, features: bool = False) -> Any:
    """scikit-learn's meta-model for one subset."""
    answers, truth = training_data(task)
    here = [digit == "1" for digit in mask]
    matrix = meta_features(answers[:, here], task)
    if features:
        matrix = np.column_stack([matrix, standardised(event_features())])
    model = LinearRegression() if task == "regression" else LogisticRegression(max_iter=5000)
    return model.fit(matrix, truth)


def fit_of(model: Any) -> StackingFit | tuple[StackingFit, ...]:
    """A meta-model of scikit-learn as the manifest has it."""
    weights = np.atleast_2d(model.coef_)
    fits = tuple(
        StackingFit(float(intercept), tuple(row.tolist()))
        for intercept, row in zip(np.atleast_1d(model.intercept_), weights, strict=True)
    )
    return fits if len(fits) > 1 else fits[0]


@cache
def stacking(task: Task, *, own: bool = True, features: bool = False) -> Stacking:
    """Meta-models for every subset, or (not `own`) for all members alone."""
    inputs = meta_features(training_data(task)[0], task)
    masks = [mask_of(here) for here in SUBSETS if own or all(here)]
    return Stacking(
        tuple(NAMES),
        {mask: fit_of(reference(task, mask, features=features)) for mask in masks},
        tuple(inputs.mean(axis=0).tolist()),
        tuple(tuple(row) for row in np.cov(inputs.T).tolist()),
        COLUMNS[task],
        INPUTS if features else (),
    )


def curve(task: Task) -> Any:
    """A reference distribution that all members share; for three classes one each."""
    answers, _ = training_data(task)
    levels = np.linspace(0, 1, 101)
    wide = np.quantile(answers, levels, axis=(0, 1)).T.copy()
    if task != "regression":
        wide[:, 0], wide[:, -1] = 0.0, 1.0
    else:
        wide[:, 0], wide[:, -1] = -100.0, 100.0
    return tuple(map(tuple, wide.tolist())) if len(wide) > 1 else tuple(wide[0].tolist())


@cache
def manifest(task: Task, *, own: bool = True) -> Manifest:
    """What training would have learned."""
    _, truth = training_data(task)
    shares = tuple((np.bincount(truth) / len(truth)).tolist()) if task == "multiclass" else None
    mean = float(np.mean(truth))
    return Manifest(
        schema=FeatureSchema((Feature("amount"), Feature("kind", "category", ("a", "b")))),
        models=tuple(
            ModelEntry(name, "lightgbm", Artefact(f"{name}.txt", "0" * 64), (), {})
            for name in NAMES
        ),
        calibrations={},
        stacking=stacking(task, own=own),
        quantiles={name: curve(task) for name in NAMES},
        golden_rows=(),
        metrics={},
        data=DataFingerprint(
            "0" * 64,
            ROWS,
            "y",
            mean if task == "binary" else None,
            shares,
            mean if task == "regression" else None,
        ),
        libraries={},
        task=task,
        classes=CLASSES[task],
        blending=dict(zip(NAMES, (0.1, 0.4, 0.5, 0.0), strict=True)),
        quality=dict(zip(NAMES, (-0.5, -0.3, -0.2, -0.4), strict=True)),
        stacking_with_features=stacking(task, own=own, features=True),
    )


def ingredients(
    task: Task,
    *,
    weights: Floats = WEIGHTS,
    order: Sequence[int] = range(MEMBERS),
    own: bool = True,
) -> Ingredients:
    """Of the four members, in some order; `weights` are in the members' own."""
    return Ingredients(
        models=[NAMES[i] for i in order],
        reserves=np.zeros(MEMBERS, dtype=np.bool_),
        weights=weights[list(order)],
        threshold=0.5,
        trim_share=0.25,
        manifest=manifest(task, own=own),
    )


def strategy(name: str, task: Task, **given: Any) -> Strategy:
    return strategy_named(name, ingredients(task, **given))


# Every strategy for every task that it is defined for.
CASES: list[tuple[str, Task]] = [
    (name, task) for name, found in catalogue().items() for task in TASKS if task in found.tasks
]


def answers_in(task: Task, cells: Floats) -> Floats:
    """Anything in [0, 1], float64[N, M, K], as answers to a task."""
    if task == "regression":
        return 40.0 * cells - 20.0
    if task == "binary":
        return cells
    clean = cells + (cells.sum(axis=2, keepdims=True) == 0)
    return clean / clean.sum(axis=2, keepdims=True)


def some_batch(task: Task, rows: int, seed: int = 3) -> tuple[Floats, Bools]:
    """Answers with absent cells."""
    rng = np.random.default_rng(seed)
    answers = answers_in(task, rng.random((rows, MEMBERS, COLUMNS[task])))
    present = np.array(SUBSETS)[rng.integers(len(SUBSETS), size=rows)]
    return answers, present
