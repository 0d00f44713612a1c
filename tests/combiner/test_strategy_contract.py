"""What every strategy promises, for every task that it is defined for, whoever is present."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from combiner.catalogue import catalogue, strategy_named
from combiner.strategies.arithmetic import logit, logs, sigmoid, softmax
from combiner.strategies.protocol import Bools, Floats, Strategy
from registry.manifest import Task
from streams.errors import ConfigurationError
from streams.settings import StrategyName
from tests.combiner.strategy_kit import (
    CASES,
    COLUMNS,
    MEMBERS,
    SUBSETS,
    TASKS,
    answers_in,
    ingredients,
    some_batch,
    strategy,
    training_data,
)

each = pytest.mark.parametrize(
    ("name", "task"), CASES, ids=[f"{name}-{task}" for name, task in CASES]
)
battery = settings(max_examples=12, derandomize=True, deadline=None)

STACKING = {"stacking", "stacking_with_features"}
VOTES = {"majority_vote", "equal_vote"}
CLASSIFICATION_ONLY = VOTES | {"geometric_mean", "log_odds_pooling"}
# Of classes, what is cut out of each column by itself need not lie between the members' answers.
PER_CLASS = {"median", "trimmed_mean", "minimum", "maximum", "rank_mean"}


@st.composite
def batches(draw: st.DrawFn, task: Task) -> tuple[Floats, Bools]:
    rows = draw(st.integers(1, 5))
    cell = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0, width=32))
    cells = draw(hnp.arrays(np.float64, (rows, MEMBERS, COLUMNS[task]), elements=cell))
    present = np.array(draw(st.lists(st.sampled_from(SUBSETS), min_size=rows, max_size=rows)))
    return answers_in(task, cells), present


def test_there_are_sixteen_strategies_and_all_can_be_configured() -> None:
    assert len(catalogue()) == 16
    assert set(catalogue()) == set(get_args(StrategyName))
    assert len(CASES) == 16 * 3 - len(CLASSIFICATION_ONLY)


@pytest.mark.parametrize("name", sorted(catalogue()))
@pytest.mark.parametrize("task", TASKS)
def test_what_is_not_defined_for_a_task_is_refused_by_name(name: str, task: Task) -> None:
    if (name, task) in CASES:
        assert strategy(name, task).name == name
        return
    with pytest.raises(ConfigurationError) as refused:
        strategy(name, task)
    assert f"{name} is not defined for {task}; expected one of best_single, " in str(refused.value)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError) as refused:
        strategy_named("meen", ingredients("binary"))
    assert "'meen'; expected one of best_single, blending, " in str(refused.value)


@each
@battery
@given(data=st.data())
def test_every_subset_gives_an_answer(name: str, task: Task, data: st.DataObject) -> None:
    answers, present = data.draw(batches(task))
    combined = strategy(name, task).combine(answers, present)
    assert combined.shape == (len(answers), COLUMNS[task])
    assert combined.dtype == np.float64
    assert np.isfinite(combined).all()
    if task != "regression":
        assert ((combined >= 0) & (combined <= 1 + 1e-12)).all()
    if task == "multiclass":
        np.testing.assert_allclose(combined.sum(axis=1), 1.0, rtol=0, atol=1e-9)
    if name not in STACKING | VOTES and not (task == "multiclass" and name in PER_CLASS):
        here = present[:, :, None]
        # A geometric mean of what sums to 1 may leave the range when it is made to do so again.
        slack = 1e-5 if task != "multiclass" or name not in CLASSIFICATION_ONLY else 1.0
        assert (combined >= np.where(here, answers, np.inf).min(axis=1) - slack).all()
        assert (combined <= np.where(here, answers, -np.inf).max(axis=1) + slack).all()


@each
@battery
@given(data=st.data(), rubbish=st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -7.0]))
def test_what_stands_in_absent_cells_is_never_read(
    name: str, task: Task, data: st.DataObject, rubbish: float
) -> None:
    answers, present = data.draw(batches(task))
    made = strategy(name, task)
    dirty = np.where(present[:, :, None], answers, rubbish)
    assert np.array_equal(made.combine(dirty, present), made.combine(answers, present))
    shares = made.contributions(dirty, present)
    assert np.array_equal(shares, made.contributions(answers, present))
    assert (shares[~present] == 0).all()


def added_up(made: Strategy, shares: Floats, neutral: Floats, combined: Floats) -> Floats:
    """The scores that contributions stand for; `neutral` is what nobody contributed."""
    total = shares.sum(axis=1)
    match made.scale:
        case "score":
            return total + neutral
        case "log_odds":
            found = sigmoid(total + neutral)
            return found / found.sum(axis=1, keepdims=True) if found.shape[1] > 1 else found
        case "log":
            return softmax(total + neutral) if total.shape[1] > 1 else np.exp(total + neutral)
        case "rank":
            return combined


@each
@battery
@given(data=st.data())
def test_contributions_add_up(name: str, task: Task, data: st.DataObject) -> None:
    answers, present = data.draw(batches(task))
    made = strategy(name, task)
    combined, shares = made.combine(answers, present), made.contributions(answers, present)
    assert shares.shape == answers.shape
    neutral: Floats = np.zeros(combined.shape)
    if name in STACKING:
        # The intercept is what a row says whose members all say nothing.
        value = {"binary": 0.5, "multiclass": 1.0, "regression": 0.0}[task]
        silent = made.combine(np.full(answers.shape, value), present)
        neutral = {"binary": logit, "multiclass": logs, "regression": np.array}[task](silent)
    if made.scale == "rank":
        assert ((shares.sum(axis=1) >= 0) & (shares.sum(axis=1) <= 1 + 1e-12)).all()
    np.testing.assert_allclose(
        added_up(made, shares, neutral, combined), combined, rtol=0, atol=1e-9
    )


@each
@battery
@given(data=st.data(), seed=st.integers(0, 99))
def test_rows_do_not_know_each_other(name: str, task: Task, data: st.DataObject, seed: int) -> None:
    answers, present = data.draw(batches(task))
    made = strategy(name, task)
    combined, shares = made.combine(answers, present), made.contributions(answers, present)
    order = np.random.default_rng(seed).permutation(len(answers))
    mixed = made.combine(answers[order], present[order])
    np.testing.assert_allclose(mixed, combined[order], rtol=0, atol=1e-12)
    for row in range(len(answers)):
        alone = slice(row, row + 1)
        found = made.combine(answers[alone], present[alone])
        np.testing.assert_allclose(found, combined[alone], rtol=0, atol=1e-12)
        found = made.contributions(answers[alone], present[alone])
        np.testing.assert_allclose(found, shares[alone], rtol=0, atol=1e-12)


@each
def test_members_may_stand_in_any_order(name: str, task: Task) -> None:
    answers, present = some_batch(task, 200)
    direct, order = strategy(name, task), [2, 0, 3, 1]
    moved = strategy(name, task, order=order)
    combined = direct.combine(answers, present)
    np.testing.assert_allclose(
        moved.combine(answers[:, order], present[:, order]), combined, rtol=0, atol=1e-12
    )
    shares = direct.contributions(answers, present)
    np.testing.assert_allclose(
        moved.contributions(answers[:, order], present[:, order]),
        shares[:, order],
        rtol=0,
        atol=1e-12,
    )


@each
def test_weights_by_event_stand_for_the_configured_ones(name: str, task: Task) -> None:
    answers, present = some_batch(task, 40)
    weights = np.random.default_rng(5).integers(0, 4, present.shape).astype(np.float64)
    made = strategy(name, task)
    combined = made.combine(answers, present, weights)
    shares = made.contributions(answers, present, weights)
    for row in range(len(answers)):
        alone = slice(row, row + 1)
        own = strategy(name, task, weights=weights[row])
        np.testing.assert_allclose(
            own.combine(answers[alone], present[alone]), combined[alone], rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(
            own.contributions(answers[alone], present[alone]), shares[alone], rtol=0, atol=1e-12
        )


@each
@battery
@given(data=st.data())
def test_what_is_given_is_not_changed(name: str, task: Task, data: st.DataObject) -> None:
    answers, present = data.draw(batches(task))
    weights = np.ones(present.shape)
    for array in (answers, present, weights):
        array.flags.writeable = False
    made = strategy(name, task)
    first = made.combine(answers, present, weights)
    made.contributions(answers, present, weights)
    assert np.array_equal(made.combine(answers, present, weights), first)


@pytest.mark.parametrize(("name", "task"), [c for c in CASES if c[0] not in STACKING])
@battery
@given(data=st.data())
def test_members_that_agree_are_believed_whoever_is_absent(
    name: str, task: Task, data: st.DataObject
) -> None:
    """A missing member is not one that answered zero: nobody drags the score down by being away."""
    cell = st.floats(0.001, 0.999)
    cells = data.draw(hnp.arrays(np.float64, (1, 1, COLUMNS[task]), elements=cell))
    agreed = answers_in(task, cells)
    if name in VOTES:
        agreed = np.round(agreed) if task == "binary" else np.eye(3)[agreed.argmax(axis=2)]
    present = np.array(SUBSETS)
    answers = np.broadcast_to(agreed, (len(SUBSETS), MEMBERS, COLUMNS[task]))
    combined = strategy(name, task).combine(answers, present)
    expected = np.broadcast_to(agreed[0], combined.shape)
    np.testing.assert_allclose(combined, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("here", SUBSETS, ids=str)
@pytest.mark.parametrize(("name", "task"), [c for c in CASES if c[0] in STACKING])
@pytest.mark.parametrize("own", [True, False], ids=["own fit", "expectation"])
def test_stacking_without_some_members_keeps_the_mean(
    name: str, task: Task, here: tuple[bool, ...], *, own: bool
) -> None:
    """Over the training rows any subset predicts as many cases as there were, not fewer."""
    answers, truth = training_data(task)
    made = strategy(name, task, own=own)
    present = np.broadcast_to(np.array(here), answers.shape[:2])
    found = made.combine(answers, present).mean(axis=0)
    expected = np.bincount(truth) / len(truth) if task == "multiclass" else [np.mean(truth)]
    # Expected log-odds are a little less extreme than log-odds, and so are what follows from them.
    exact = own and name == "stacking"
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.002 if exact else 0.06)


@each
def test_no_events_give_no_scores(name: str, task: Task) -> None:
    none, nobody = np.empty((0, MEMBERS, COLUMNS[task])), np.empty((0, MEMBERS), dtype=np.bool_)
    made = strategy(name, task)
    assert made.combine(none, nobody).shape == (0, COLUMNS[task])
    assert made.contributions(none, nobody).shape == none.shape
