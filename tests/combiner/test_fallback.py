"""The ladder against its table, over every subset of a few models."""

import itertools

import numpy as np
import pytest

from combiner.fallback import RUNGS, Ladder
from streams.records import Fallback

LADDERS: list[frozenset[Fallback]] = [
    frozenset(chosen) for size in range(4) for chosen in itertools.combinations(RUNGS[1:4], size)
]


def rung_by_words(
    answered: tuple[bool, ...],
    reserves: tuple[bool, ...],
    rungs: frozenset[Fallback],
    minimum_members: int,
) -> Fallback:
    members = [yes for yes, reserve in zip(answered, reserves, strict=True) if not reserve]
    if all(members):
        return "none"
    if "partial" in rungs and sum(members) >= minimum_members:
        return "partial"
    reserve_answered = any(yes for yes, reserve in zip(answered, reserves, strict=True) if reserve)
    if "reserve" in rungs and reserve_answered:
        return "reserve"
    return "cached" if "cached" in rungs else "prior"


@pytest.mark.parametrize("rungs", LADDERS, ids=lambda rungs: "+".join(sorted(rungs)) or "bare")
@pytest.mark.parametrize("models", [1, 2, 4])
def test_every_subset_stands_where_the_table_puts_it(
    rungs: frozenset[Fallback], models: int
) -> None:
    subsets = list(itertools.product([False, True], repeat=models))
    present = np.array(subsets)
    for reserves in itertools.product([False, True], repeat=models):
        if all(reserves):
            continue
        for minimum in range(1, models + 2):
            ladder = Ladder(np.array(reserves), rungs, minimum)
            rung = ladder.rungs_of(present)
            used = ladder.used(present, rung)
            for row, answered in enumerate(subsets):
                expected = rung_by_words(answered, reserves, rungs, minimum)
                assert RUNGS[rung[row]] == expected
                wanted = {"none": False, "partial": False, "reserve": True}
                assert used[row].tolist() == [
                    expected in wanted and yes and reserve == wanted[expected]
                    for yes, reserve in zip(answered, reserves, strict=True)
                ]


def test_a_score_is_never_made_of_members_and_reserves_at_once() -> None:
    ladder = Ladder(np.array([False, False, True]), frozenset(("partial", "reserve")), 1)
    present = np.array(list(itertools.product([False, True], repeat=3)))
    used = ladder.used(present, ladder.rungs_of(present))
    assert not (used[:, :2].any(axis=1) & used[:, 2]).any()


def test_no_events_stand_nowhere() -> None:
    ladder = Ladder(np.array([False]), frozenset(), 1)
    none = np.empty((0, 1), dtype=np.bool_)
    rung = ladder.rungs_of(none)
    assert rung.shape == (0,)
    assert ladder.used(none, rung).shape == (0, 1)


def test_an_ensemble_of_reserves_only_is_refused() -> None:
    with pytest.raises(AssertionError, match="at least one member"):
        Ladder(np.array([True, True]), frozenset(), 1)


def test_a_partial_score_of_nobody_is_refused() -> None:
    with pytest.raises(AssertionError):
        Ladder(np.array([False]), frozenset(("partial",)), 0)
