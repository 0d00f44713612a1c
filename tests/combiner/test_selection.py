"""Every selection by one contract, the neighbour rules against the papers and against DESlib."""

import importlib
import pkgutil
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import combiner.selection
from combiner.selection import constrained_subset
from combiner.selection.constrained_subset import ConstrainedSubset, Constraints, best_subset
from combiner.selection.knora_eliminate import KnoraEliminate
from combiner.selection.knora_union import KnoraUnion
from combiner.selection.neighbours import BLOCK, Neighbours
from combiner.selection.overall_local_accuracy import OverallLocalAccuracy
from combiner.selection.protocol import Context
from combiner.selection.region_best import RegionBest
from combiner.selection.segment_weights import FeatureRanges, FeatureValues, Hours, SegmentWeights
from combiner.selection.space import FeatureSpace
from tests.combiner.selection_kit import (
    HITS,
    MEMBERS,
    ROWS,
    SPACE,
    VALIDATION,
    K,
    every_kind,
    members,
    some_events,
)

KINDS = every_kind()
NO_CONTEXT = Context(np.zeros(0, dtype=np.int64), {})


def found_classes() -> set[type]:
    """Every class of the package that has a `name` and `weights`; the protocol has no name."""
    found = set()
    for module in pkgutil.iter_modules(combiner.selection.__path__, "combiner.selection."):
        loaded = importlib.import_module(module.name)
        for value in vars(loaded).values():
            if isinstance(value, type) and hasattr(value, "weights") and hasattr(value, "name"):
                found.add(value)
    return found


# -- the contract --------------------------------------------------------------------------------


def test_the_battery_meets_every_selection() -> None:
    found = found_classes()
    assert len(found) == 6
    assert {type(kind) for kind in KINDS} == found
    assert len({kind.name for kind in found}) == len(found)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=30)
@given(st.integers(1, 2 * BLOCK + 3), st.integers(0, 2**32))
def test_the_contract_of_selections(kind, count: int, seed: int) -> None:
    features, context, present = some_events(count, seed)
    asked = Context(context.time_ms, {name: context.headers[name] for name in kind.headers})
    before = features.copy(), present.copy()
    weights = kind.weights(features, asked, present)
    assert weights.shape == present.shape
    assert (weights >= 0).all()
    assert not weights[~present].any(), "who is absent has no weight"
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(kind.weights(features, asked, present), weights)
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(present, before[1])
    rows = np.random.default_rng(seed).permutation(count)[: count // 2 + 1]
    np.testing.assert_array_equal(
        kind.weights(features[rows], asked.take(rows), present[rows]), weights[rows]
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_events_have_no_weights(kind) -> None:
    features, context, present = some_events(4, 0)
    nobody = np.arange(0)
    found = kind.weights(features[nobody], context.take(nobody), present[nobody])
    assert found.shape == (0, MEMBERS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whoever_is_alone_has_all_the_weight(kind) -> None:
    features, context, _ = some_events(40, 1)
    alone = np.eye(MEMBERS, dtype=np.bool_)[np.arange(40) % MEMBERS]
    np.testing.assert_array_equal(kind.weights(features, context, alone), alone.astype(float))


# -- the neighbour rules -------------------------------------------------------------------------


def by_the_papers(rule: str, event: np.ndarray, present: np.ndarray) -> np.ndarray:
    """One event, one step after the other, as the papers tell it."""
    point = [0.0 if np.isnan(value) else float(value) for value in event]
    squares = [sum((a - float(b)) ** 2 for a, b in zip(point, row, strict=True)) for row in ROWS]
    near = sorted(range(VALIDATION), key=lambda row: (squares[row], row))[:K]
    here = [member for member in range(MEMBERS) if present[member]]
    votes = dict.fromkeys(here, 0)
    if rule == "overall_local_accuracy":
        accuracy = {m: sum(HITS[row, m] for row in near) / K for m in here}
        best = max(accuracy.values())
        votes.update({m: 1 for m in here if accuracy[m] == best})
    elif rule == "knora_eliminate":
        for size in range(K, 0, -1):
            oracles = [m for m in here if all(HITS[row, m] for row in near[:size])]
            if oracles:
                votes.update(dict.fromkeys(oracles, 1))
                break
    else:
        for row in near:
            for member in here:
                votes[member] += int(HITS[row, member])
    if not any(votes.values()):
        votes = dict.fromkeys(here, 1)
    total = sum(votes.values())
    return np.array([votes.get(member, 0) / total for member in range(MEMBERS)])


@pytest.mark.parametrize("rule", [OverallLocalAccuracy, KnoraEliminate, KnoraUnion])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_the_rules_are_those_of_the_papers(rule, seed: int) -> None:
    features, context, present = some_events(25, seed)
    found = rule(SPACE, Neighbours(ROWS, K), HITS).weights(features, context, present)
    expected = [by_the_papers(rule.name, *row) for row in zip(features, present, strict=True)]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-12)


# What DESlib 0.3.7 gives on the data below: `estimate_competence` and `select` of OLA (with
# selection_method="all"), KNORAE and KNORAU, k = 7. Chosen members as digits, votes as numbers.
DESLIB = {
    OverallLocalAccuracy: (
        "1001 0101 1001 0100 0001 0101 0010 0001 0001 0001 0001 0010 0010 0010 1000 0001 "
        "1001 0100 0010 0001 1000 0001 0011 1010 0010 0010 1000 1001 0100 1001 1101 1000 "
        "1000 0001 0010 1101 0010 1000 0100 1000 "
    ),
    KnoraEliminate: (
        "1111 1111 1000 0100 0001 0001 0010 0001 0001 0001 0001 0111 0010 0010 1111 1111 "
        "0001 0100 0010 0001 1100 0001 0100 1010 1010 0100 1000 1001 0100 1000 1000 1000 "
        "1000 0100 0010 1010 0010 0100 0110 0001 "
    ),
    KnoraUnion: (
        "5145 4545 5135 5635 5357 5656 5464 4537 5446 4536 5537 4565 5575 5674 5343 5446 "
        "5345 6746 6575 5257 6354 5556 5566 6463 4465 4465 7256 6346 3653 6346 6656 6555 "
        "7456 4446 6376 6656 5574 6525 4544 6455 "
    ),
}


def deslib_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Validation rows, hits, queries; irrational steps, so that no distances are equal."""
    steps = np.arange(1, 241)
    rows = np.sin(np.outer(steps, np.sqrt([2.0, 3.0, 5.0])) * 7.0)
    angles = rows @ np.array([[1, -1, 0.5, -2], [0.5, 1, -1, 1], [-1, 0.3, 1, 0.2]])
    hits = np.sin(5.0 * angles) > -0.6
    return rows[:200], hits[:200], rows[200:]


@pytest.mark.parametrize("rule", DESLIB, ids=lambda rule: rule.name)
def test_the_rules_are_those_of_deslib(rule) -> None:
    rows, hits, queries = deslib_data()
    space = FeatureSpace([0.0] * 3, [1.0] * 3, [0] * 3)
    everybody = np.ones((len(queries), 4), dtype=np.bool_)
    found = rule(space, Neighbours(rows, 7), hits).weights(queries, NO_CONTEXT, everybody)
    votes = np.array([[int(digit) for digit in word] for word in DESLIB[rule].split()], dtype=float)
    np.testing.assert_allclose(found, votes / votes.sum(axis=1, keepdims=True), rtol=1e-12)


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**32))
def test_neighbours_are_the_nearest_and_ties_go_by_number(rows, k, width, seed) -> None:
    random = np.random.default_rng(seed)
    places = random.integers(-2, 3, (rows, width)) * 0.7
    asked = random.integers(-2, 3, (30, width)) * 0.7
    k = min(k, rows)
    distances = np.square(asked[:, None, :] - places[None, :, :]).sum(axis=2)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(Neighbours(places, k).of(asked), expected)


def test_far_away_the_rough_distances_still_find_the_nearest() -> None:
    random = np.random.default_rng(2)
    places = 1e6 + random.normal(size=(500, 4))
    asked = 1e6 + random.normal(size=(50, 4))
    distances = np.square(asked[:, None, :] - places[None, :, :]).sum(axis=2)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(Neighbours(places, 5).of(asked), expected)


def test_numbers_are_standardised_and_categories_are_axes() -> None:
    space = FeatureSpace([10.0, 0.0, 5.0], [2.0, 0.0, 0.0], [0, 3, 0])
    features = np.array([[12.0, 1.0, 5.0], [np.nan, np.nan, np.nan], [8.0, 2.0, 7.0]])
    root = np.sqrt(0.5)
    expected = [[1.0, 0.0, 0.0, root, 0.0], [0.0] * 5, [-1.0, 2.0, 0.0, 0.0, root]]
    np.testing.assert_allclose(space.place(features), expected)


# -- regions and segments ------------------------------------------------------------------------


def test_a_region_takes_the_best_of_those_present() -> None:
    centres = np.array([[-1.0], [1.0]])
    losses = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    regions = RegionBest(FeatureSpace([0.0], [1.0], [0]), centres, losses, best=2)
    features = np.array([[-5.0], [5.0], [-5.0], [5.0]])
    present = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 0]], dtype=np.bool_)
    expected = [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0.5, 0.5], [1, 0, 0]]
    np.testing.assert_array_equal(regions.weights(features, NO_CONTEXT, present), expected)


def test_ranges_begin_at_their_edge_and_the_missing_are_apart() -> None:
    ranges = FeatureRanges(0, [0.0, 10.0])
    features = np.array([[-1.0], [0.0], [9.9], [10.0], [np.nan]])
    assert ranges.of(features, NO_CONTEXT).tolist() == [0, 1, 1, 2, ranges.count]


def test_values_that_are_not_listed_are_apart() -> None:
    values = FeatureValues(0, [3.0, 1.0])
    assert values.of(np.array([[1.0], [3.0], [2.0], [np.nan]]), NO_CONTEXT).tolist() == [1, 0, 2, 2]


def test_the_night_goes_on_after_midnight() -> None:
    hours = np.array([0, 5, 6, 17, 18, 23])
    context = Context(1_700_006_400_000 + hours * 3_600_000, {})  # a midnight in UTC
    assert Hours([6, 18]).of(np.empty((6, 0)), context).tolist() == [1, 1, 0, 0, 1, 1]


def test_each_segment_has_its_weights() -> None:
    weights = np.array([[1.0, 0.0], [1.0, 3.0], [0.0, 0.0]])
    selection = SegmentWeights(FeatureRanges(0, [0.0]), weights)
    features = np.array([[-1.0], [1.0], [np.nan], [-1.0]])
    present = np.array([[True, True], [True, True], [True, True], [False, True]])
    expected = [[1, 0], [0.25, 0.75], [0.5, 0.5], [0, 1]]
    np.testing.assert_array_equal(selection.weights(features, NO_CONTEXT, present), expected)


# -- the subset under constraints ----------------------------------------------------------------


def loss_of(errors: np.ndarray, chosen: tuple[int, ...]) -> float:
    return float(np.square(errors[:, chosen].mean(axis=1)).mean())


def test_the_products_tell_the_error_of_every_mean() -> None:
    errors = np.random.default_rng(0).normal(size=(100, 4))
    known = constrained_subset.Members(errors.T @ errors / 100, np.zeros((4, 4)), np.zeros(4))
    for size in range(1, 5):
        for chosen in combinations(range(4), size):
            assert known.loss(list(chosen)) == pytest.approx(loss_of(errors, chosen), rel=1e-12)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.floats(0, 60),
    st.floats(0, 0.6),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_no_other_subset_is_better(seed, most, latency_ms, diversity, healthy) -> None:
    known = members(5, seed)
    limits = Constraints(most, latency_ms, diversity)
    well = np.array(healthy)
    allowed = [m for m in range(5) if well[m] and known.latency_ms[m] <= latency_ms]
    fitting = [
        chosen
        for size in range(1, most + 1)
        for chosen in combinations(allowed, size)
        if np.mean([known.disagreement[a, b] for a, b in combinations(chosen, 2)] or [0.0])
        >= diversity
    ]
    found = np.flatnonzero(best_subset(known, limits, well)).tolist()
    if fitting:
        assert tuple(found) in fitting
        assert known.loss(found) == min(known.loss(list(chosen)) for chosen in fitting)
    else:
        pool = allowed or np.flatnonzero(well).tolist() or list(range(5))
        assert found == [min(pool, key=lambda one: known.products[one, one])]


def test_of_many_members_the_subset_grows_one_by_one() -> None:
    known = members(20)
    found = [best_subset(known, Constraints(size), np.ones(20, bool)) for size in range(1, 8)]
    losses = [known.loss(np.flatnonzero(chosen).tolist()) for chosen in found]
    assert all(later <= earlier for earlier, later in pairwise(losses))
    assert np.count_nonzero(found[0]) == 1


def test_health_changes_the_choice_and_back() -> None:
    subset = ConstrainedSubset(members(MEMBERS), Constraints(2))
    before = subset.chosen.copy()
    subset.update(~before)
    assert not (subset.chosen & before).any()
    subset.update(np.ones(MEMBERS, dtype=np.bool_))
    np.testing.assert_array_equal(subset.chosen, before)


def test_without_the_chosen_the_best_single_one_counts() -> None:
    subset = ConstrainedSubset(members(MEMBERS), Constraints(1))
    present = ~subset.chosen[None, :]
    losses = np.where(present[0], np.diag(members(MEMBERS).products), np.inf)
    weights = subset.weights(np.empty((1, 0)), NO_CONTEXT, present)
    assert weights[0].argmax() == losses.argmin()
    assert weights.sum() == 1.0
