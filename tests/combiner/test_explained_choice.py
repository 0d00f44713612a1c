"""What is said of an absent member is what comes out where it did not answer: of any ensemble."""

from dataclasses import replace

import numpy as np
import pytest

from combiner.calibration import Calibrator
from combiner.decision import Decider, DecisionConfig, Decisions
from combiner.facts import Facts
from combiner.fallback import Ladder
from combiner.outcome import Outcome
from combiner.refinement import NO_REFINEMENT, Refinement
from combiner.settled import ANSWERED, WAITING, Settled
from registry.manifest import Task
from tests.combiner.decision_kit import NOW_MS
from tests.combiner.selection_kit import every_kind, some_events
from tests.combiner.strategy_kit import (
    CASES,
    CLASSES,
    COLUMNS,
    MEMBERS,
    NAMES,
    WEIGHTS,
    answers_in,
    strategy,
)

EVENTS = 12
REFINEMENTS = [NO_REFINEMENT, *(Refinement(kind) for kind in every_kind())]


def some_facts() -> Facts:
    features, context, _ = some_events(EVENTS, 4)
    return Facts(features, context, np.linspace(0.0, 0.9, EVENTS))


def some_rows(task: Task) -> Settled:
    """Everybody answered the first events, one alone the second, some the others."""
    random = np.random.default_rng(7)
    present = random.random((EVENTS, MEMBERS)) < 0.6
    present[:, 1] = True
    present[0], present[1] = True, np.arange(MEMBERS) == 1
    answers = answers_in(task, random.random((EVENTS, MEMBERS, COLUMNS[task])))
    nothing = np.zeros(EVENTS, dtype=np.int64)
    return Settled(
        np.arange(EVENTS),
        np.arange(EVENTS),
        np.where(present[:, :, None], answers, np.nan),
        np.where(present, ANSWERED, WAITING).astype(np.uint8),
        nothing,
        np.ones(EVENTS, np.bool_),
        {},
        np.zeros(EVENTS, np.bool_),
    )


def decided(
    name: str, task: Task, refinement: Refinement, settled: Settled, facts: Facts
) -> Decisions:
    outcome = Outcome(task, CLASSES[task])
    whole = Decider(
        DecisionConfig(WEIGHTS, [0.0] * COLUMNS[task], 0.5, 0, explain=True, outcome=outcome),
        Ladder(np.zeros(MEMBERS, np.bool_), frozenset({"partial"}), 1),
        Calibrator(NAMES, {}),
        strategy(name, task),
        lambda entities: [None] * len(entities),
        refinement,
    )
    return whole.decide(settled, [""] * EVENTS, NOW_MS, facts)


def test_there_are_ten_ways_to_choose() -> None:
    assert len(REFINEMENTS) == 10


@pytest.mark.parametrize(("name", "task"), CASES, ids=[f"{n}-{t}" for n, t in CASES])
def test_without_a_member_is_where_it_did_not_answer(name: str, task: Task) -> None:
    settled, facts = some_rows(task), some_facts()
    for refinement in REFINEMENTS:
        found = decided(name, task, refinement, settled, facts)
        assert found.explanation is not None
        alone = np.count_nonzero(settled.states == ANSWERED, axis=1) == 1
        for member in range(MEMBERS):
            states = settled.states.copy()
            states[:, member] = WAITING
            other = decided(name, task, refinement, replace(settled, states=states), facts)
            told = found.used[:, member] & ~alone
            without = found.explanation.without[:, member]
            np.testing.assert_array_equal(without[told], other.scores[told])
            assert np.isnan(without[~told]).all()
            if task != "regression":
                turned = (other.labels != found.labels) & told
                np.testing.assert_array_equal(found.explanation.decisive[:, member], turned)
