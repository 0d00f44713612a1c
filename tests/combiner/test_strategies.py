"""One battery of promises for every strategy, and each against somebody else's arithmetic."""

import importlib
import inspect
import itertools
import math
import pkgutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import LabelEncoder

from combiner import strategies
from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.median import Median
from combiner.strategies.protocol import Bools, Floats, Strategy
from combiner.strategies.stacking import CLIP, StackedLogistic, logit
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import Stacking, StackingFit

MEMBERS = 4
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.25])
SUBSETS = [here for here in itertools.product([False, True], repeat=MEMBERS) if any(here)]


def mask_of(here: tuple[bool, ...]) -> str:
    return "".join("1" if yes else "0" for yes in here)


def trained(own: Callable[[tuple[bool, ...]], bool]) -> tuple[Stacking, dict[str, Any], Floats]:
    """A fit as training makes it, scikit-learn's models by mask, and the training log-odds."""
    rng = np.random.default_rng(11)
    truth = rng.random(800) < 0.4
    mix = np.array([[1, 0.4, 0.1, 0], [0, 1, 0.5, 0.2], [0, 0, 1, -0.3], [0, 0, 0, 0.8]])
    logits = 1.6 * truth[:, None] - 0.9 + rng.normal(size=(800, MEMBERS)) @ mix
    logits[:, 3] *= 0.5
    models = {
        mask_of(here): LogisticRegression().fit(logits[:, list(here)], truth) for here in SUBSETS
    }
    fits = {
        mask_of(here): StackingFit(
            float(models[mask_of(here)].intercept_[0]),
            tuple(models[mask_of(here)].coef_[0].tolist()),
        )
        for here in SUBSETS
        if own(here) or all(here)
    }
    names = tuple(f"m{i}" for i in range(MEMBERS))
    covariance = tuple(tuple(row) for row in np.cov(logits.T).tolist())
    return Stacking(names, fits, tuple(logits.mean(axis=0).tolist()), covariance), models, logits


OWN_FITS, REFERENCE, TRAINING_LOGITS = trained(lambda here: True)
FULL_FIT_ONLY = trained(lambda here: False)[0]

# How to make one of each class that discovery finds; several where a class has several ways.
EXAMPLES: dict[type[Any], list[Strategy]] = {
    WeightedMean: [WeightedMean(WEIGHTS), WeightedMean(np.zeros(MEMBERS))],
    Median: [Median()],
    MajorityVote: [MajorityVote(WEIGHTS), MajorityVote(np.ones(MEMBERS), 0.7)],
    StackedLogistic: [
        StackedLogistic(OWN_FITS, [0, 1, 2, 3]),
        StackedLogistic(FULL_FIT_ONLY, [2, 0, 3, 1]),
    ],
}
AVERAGES = (WeightedMean, Median)  # what lies between the smallest and the largest


def discovered() -> list[type[Any]]:
    found = []
    for module_info in pkgutil.iter_modules(strategies.__path__):
        module = importlib.import_module(f"combiner.strategies.{module_info.name}")
        found += [
            value
            for _, value in inspect.getmembers(module, inspect.isclass)
            if value.__module__ == module.__name__
            and value is not Strategy
            and hasattr(value, "combine")
        ]
    return found


ALL = [
    pytest.param(example, id=f"{cls.name}-{number}")
    for cls in discovered()
    for number, example in enumerate(EXAMPLES[cls])
]
each_strategy = pytest.mark.parametrize("strategy", ALL)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Floats, Bools]:
    rows = draw(st.integers(1, 6))
    cells = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0, width=32))
    scores = draw(hnp.arrays(np.float64, (rows, MEMBERS), elements=cells))
    present = np.array(draw(st.lists(st.sampled_from(SUBSETS), min_size=rows, max_size=rows)))
    return scores, present


def polluted(scores: Floats, present: Bools, with_: float) -> Floats:
    return np.where(present, scores, with_)


def test_there_are_four_strategies_and_each_has_an_example() -> None:
    assert len(discovered()) == 4
    assert set(discovered()) == set(EXAMPLES)
    assert {cls.name for cls in EXAMPLES} == {
        "weighted_mean", "median", "majority_vote", "stacking",
    }  # fmt: skip


# -- the battery -----------------------------------------------------------------------------


@each_strategy
@settings(max_examples=60, derandomize=True)
@given(batch=batches())
def test_every_subset_gives_a_probability(strategy: Strategy, batch: tuple[Floats, Bools]) -> None:
    scores, present = batch
    combined = strategy.combine(scores, present)
    assert combined.shape == (len(scores),)
    assert combined.dtype == np.float64
    assert ((combined >= 0) & (combined <= 1 + 1e-12)).all()
    if isinstance(strategy, AVERAGES):
        low = np.where(present, scores, np.inf).min(axis=1)
        high = np.where(present, scores, -np.inf).max(axis=1)
        assert (combined >= low - 1e-12).all()
        assert (combined <= high + 1e-12).all()


@each_strategy
@settings(max_examples=60, derandomize=True)
@given(batch=batches(), rubbish=st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -7.0]))
def test_what_stands_in_absent_cells_is_never_read(
    strategy: Strategy, batch: tuple[Floats, Bools], rubbish: float
) -> None:
    scores, present = batch
    dirty = polluted(scores, present, rubbish)
    assert np.array_equal(strategy.combine(dirty, present), strategy.combine(scores, present))
    shares = strategy.contributions(dirty, present)
    assert np.array_equal(shares, strategy.contributions(scores, present))
    assert (shares[~present] == 0).all()


@each_strategy
@settings(max_examples=60, derandomize=True)
@given(batch=batches())
def test_contributions_add_up(strategy: Strategy, batch: tuple[Floats, Bools]) -> None:
    scores, present = batch
    combined = strategy.combine(scores, present)
    total = strategy.contributions(scores, present).sum(axis=1)
    if isinstance(strategy, StackedLogistic):
        # The intercept is what a row says whose members all answered one half.
        intercepts = log_odds(strategy.combine(np.full(scores.shape, 0.5), present))
        total = 1 / (1 + np.exp(-(total + intercepts)))
    np.testing.assert_allclose(total, combined, rtol=0, atol=1e-11)


def log_odds(probabilities: Floats) -> Floats:
    return np.log(probabilities) - np.log1p(-probabilities)


@each_strategy
@settings(max_examples=40, derandomize=True)
@given(batch=batches(), seed=st.integers(0, 99))
def test_rows_do_not_know_each_other(
    strategy: Strategy, batch: tuple[Floats, Bools], seed: int
) -> None:
    scores, present = batch
    combined, shares = strategy.combine(scores, present), strategy.contributions(scores, present)
    order = np.random.default_rng(seed).permutation(len(scores))
    close = SimpleNamespace(rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        strategy.combine(scores[order], present[order]), combined[order], **vars(close)
    )
    for row in range(len(scores)):
        alone = slice(row, row + 1)
        np.testing.assert_allclose(
            strategy.combine(scores[alone], present[alone]), combined[alone], **vars(close)
        )
        np.testing.assert_allclose(
            strategy.contributions(scores[alone], present[alone]), shares[alone], **vars(close)
        )


@each_strategy
@settings(max_examples=40, derandomize=True)
@given(batch=batches())
def test_what_is_given_is_not_changed(strategy: Strategy, batch: tuple[Floats, Bools]) -> None:
    scores, present = batch
    scores.flags.writeable = present.flags.writeable = False
    first = strategy.combine(scores, present)
    strategy.contributions(scores, present)
    assert np.array_equal(strategy.combine(scores, present), first)


@each_strategy
def test_a_missing_member_is_not_one_that_answered_zero(strategy: Strategy) -> None:
    """All agree on 0.9: whoever is there, nobody may drag the score down."""
    present = np.array(SUBSETS)
    combined = strategy.combine(np.full(present.shape, 0.9), present)
    if isinstance(strategy, AVERAGES):
        np.testing.assert_allclose(combined, 0.9, rtol=0, atol=1e-12)
    elif isinstance(strategy, MajorityVote):
        assert (combined == 1.0).all()
    else:
        assert isinstance(strategy, StackedLogistic)


@pytest.mark.parametrize("here", SUBSETS, ids=mask_of)
@pytest.mark.parametrize("fit", [OWN_FITS, FULL_FIT_ONLY], ids=["own fit", "expectation"])
def test_stacking_without_some_members_keeps_the_share_of_cases(
    fit: Stacking, here: tuple[bool, ...]
) -> None:
    """Over the training data any subset predicts as many cases as there were, not fewer."""
    scores = 1 / (1 + np.exp(-TRAINING_LOGITS))
    present = np.broadcast_to(np.array(here), scores.shape)
    share = StackedLogistic(fit, [0, 1, 2, 3]).combine(scores, present).mean()
    everyone = StackedLogistic(fit, [0, 1, 2, 3]).combine(scores, np.ones_like(present)).mean()
    # Expected log-odds are a little less extreme than log-odds, and so are what follows from them.
    assert share == pytest.approx(everyone, abs=0.002 if fit is OWN_FITS else 0.04)


@each_strategy
def test_no_events_give_no_scores(strategy: Strategy) -> None:
    none = np.empty((0, MEMBERS))
    assert strategy.combine(none, none.astype(np.bool_)).shape == (0,)
    assert strategy.contributions(none, none.astype(np.bool_)).shape == (0, MEMBERS)


# -- against other people's arithmetic -------------------------------------------------------

RNG = np.random.default_rng(3)
SCORES = RNG.random((64 * len(SUBSETS), MEMBERS))
PRESENT = np.array(SUBSETS * 64)


def test_the_weighted_mean_is_numpys_average() -> None:
    combined = WeightedMean(WEIGHTS).combine(SCORES, PRESENT)
    for row, (scores, here) in enumerate(zip(SCORES, PRESENT, strict=True)):
        weights = WEIGHTS[here] if WEIGHTS[here].any() else None
        assert combined[row] == pytest.approx(np.average(scores[here], weights=weights), abs=1e-12)


def test_the_median_is_numpys_median() -> None:
    combined = Median().combine(SCORES, PRESENT)
    expected = np.nanmedian(np.where(PRESENT, SCORES, np.nan), axis=1)
    np.testing.assert_allclose(combined, expected, rtol=0, atol=1e-15)


def test_the_median_of_one_is_that_one_to_the_last_bit() -> None:
    alone = np.eye(MEMBERS, dtype=np.bool_)
    assert Median().combine(SCORES[:MEMBERS], alone).tolist() == np.diag(SCORES).tolist()


class Oracle:
    """A classifier that has its answers already; the rows' first feature says which."""

    def __init__(self, answers: Floats) -> None:
        self.answers = answers

    def predict_proba(self, rows: Floats) -> Floats:
        chosen = self.answers[rows[:, 0].astype(int)]
        return np.column_stack([1 - chosen, chosen])

    def predict(self, rows: Floats) -> Floats:
        return (self.predict_proba(rows)[:, 1] >= 0.5).astype(int)


def voting(here: tuple[bool, ...], how: str) -> VotingClassifier:
    """scikit-learn's voting over the present members, as if it had been fitted."""
    members = [Oracle(SCORES[:, column]) for column in np.flatnonzero(here)]
    voter = VotingClassifier(
        [(str(i), member) for i, member in enumerate(members)],
        voting=how,
        weights=WEIGHTS[list(here)],
    )
    voter.estimators_ = members
    voter.le_ = LabelEncoder().fit([0, 1])
    voter.classes_ = voter.le_.classes_
    return voter


@pytest.mark.parametrize("here", [s for s in SUBSETS if WEIGHTS[list(s)].any()], ids=mask_of)
def test_voting_is_scikit_learns(here: tuple[bool, ...]) -> None:
    rows = np.arange(len(SCORES), dtype=np.float64)[:, None]
    present = np.broadcast_to(np.array(here), SCORES.shape)
    soft = WeightedMean(WEIGHTS).combine(SCORES, present)
    np.testing.assert_allclose(
        soft, voting(here, "soft").predict_proba(rows)[:, 1], rtol=0, atol=1e-12
    )
    hard = MajorityVote(WEIGHTS).combine(SCORES, present)
    untied = np.abs(hard - 0.5) > 1e-9  # there a tie says no, here it says yes
    assert untied.any()
    labels = voting(here, "hard").predict(rows)
    assert np.array_equal((hard >= 0.5).astype(int)[untied], labels[untied])


@pytest.mark.parametrize("members", range(2, 65, 2))
def test_a_tie_of_equal_voters_says_yes(members: int) -> None:
    vote = MajorityVote(np.ones(members))
    everyone = np.ones((members, members), dtype=np.bool_)
    half = np.arange(members) < members // 2
    scores = np.stack([np.roll(half, shift) for shift in range(members)]).astype(np.float64)
    assert (vote.combine(scores, everyone) >= vote.threshold).all()


def test_a_tie_of_decimal_weights_says_yes() -> None:
    vote = MajorityVote(np.array([0.1, 0.2, 0.3]))
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert vote.combine(scores, np.ones((2, 3), dtype=np.bool_)).tolist() == [0.5, 0.5]


def test_a_member_votes_yes_from_its_threshold_on() -> None:
    vote = MajorityVote(np.ones(1), vote_threshold=0.7)
    scores = np.array([[0.7], [math.nextafter(0.7, 0.0)]])
    assert vote.combine(scores, np.ones((2, 1), dtype=np.bool_)).tolist() == [1.0, 0.0]


# -- stacking --------------------------------------------------------------------------------


@pytest.mark.parametrize("here", SUBSETS, ids=mask_of)
def test_stacking_is_scikit_learns_for_every_subset_with_a_fit_of_its_own(
    here: tuple[bool, ...],
) -> None:
    scores = RNG.random((200, MEMBERS))
    present = np.broadcast_to(np.array(here), scores.shape)
    combined = StackedLogistic(OWN_FITS, [0, 1, 2, 3]).combine(scores, present)
    expected = REFERENCE[mask_of(here)].predict_proba(logit(scores[:, list(here)]))[:, 1]
    np.testing.assert_allclose(combined, expected, rtol=0, atol=1e-9)


def expected_logits(logits: Floats, here: tuple[bool, ...]) -> Floats:
    """Absent log-odds given the present ones, by the precision matrix, one row at a time.

    With L the inverse covariance, E[a | p] = mean_a - L_aa^-1 L_ap (p - mean_p): another road
    to the same place than the regression on the covariance.
    """
    yes, no = np.array(here), ~np.array(here)
    mean = np.array(FULL_FIT_ONLY.means)
    precision = np.linalg.inv(np.array(FULL_FIT_ONLY.covariance))
    filled = logits.copy()
    for row in filled:
        shift = precision[np.ix_(no, yes)] @ (row[yes] - mean[yes])
        row[no] = mean[no] - np.linalg.solve(precision[np.ix_(no, no)], shift)
    return filled


@pytest.mark.parametrize("here", [s for s in SUBSETS if not all(s)], ids=mask_of)
def test_without_a_fit_of_its_own_a_subset_stands_on_the_expectation_of_the_absent(
    here: tuple[bool, ...],
) -> None:
    scores = RNG.random((100, MEMBERS))
    present = np.broadcast_to(np.array(here), scores.shape)
    combined = StackedLogistic(FULL_FIT_ONLY, [0, 1, 2, 3]).combine(scores, present)
    filled = expected_logits(logit(scores), here)
    expected = REFERENCE["1" * MEMBERS].predict_proba(filled)[:, 1]
    np.testing.assert_allclose(combined, expected, rtol=0, atol=1e-9)


def test_members_that_always_agree_can_stand_in_for_each_other() -> None:
    """The covariance of equal members is singular; the expectation is still the other one."""
    fit = Stacking(
        ("a", "b", "c"),
        {"111": StackingFit(-0.3, (0.5, 0.25, 1.0))},
        (0.1, 0.1, -0.2),
        ((1.0, 1.0, 0.2), (1.0, 1.0, 0.2), (0.2, 0.2, 2.0)),
    )
    stacked = StackedLogistic(fit, [0, 1, 2])
    scores = np.array([[0.8, 0.8, 0.3]])
    full = stacked.combine(scores, np.array([[True, True, True]]))
    without = stacked.combine(scores, np.array([[True, False, True]]))
    np.testing.assert_allclose(without, full, rtol=0, atol=1e-9)


def test_stacking_finds_its_members_by_column_and_leaves_the_others_alone() -> None:
    scores, present = SCORES[:50], np.ones((50, MEMBERS), dtype=np.bool_)
    direct = StackedLogistic(OWN_FITS, [0, 1, 2, 3])
    moved = StackedLogistic(OWN_FITS, [4, 2, 0, 1])
    wide = np.column_stack([scores[:, 2], scores[:, 3], scores[:, 1], RNG.random(50), scores[:, 0]])
    everyone = np.ones(wide.shape, dtype=np.bool_)
    assert np.array_equal(moved.combine(wide, everyone), direct.combine(scores, present))
    assert (moved.contributions(wide, everyone)[:, 3] == 0).all()


def test_rows_without_any_stacked_member_get_the_mean_of_the_others() -> None:
    pair = Stacking(("a",), {"1": StackingFit(0.0, (1.0,))}, (0.0,), ((1.0,),))
    stacked = StackedLogistic(pair, [0])
    scores = np.array([[np.nan, 0.2, 0.6], [0.7, 0.1, 0.1]])
    present = np.array([[False, True, True], [True, True, True]])
    np.testing.assert_allclose(stacked.combine(scores, present), [0.4, 0.7], rtol=0, atol=1e-12)


def test_certainty_has_a_limit() -> None:
    assert logit(np.array([0.0, 1.0])) == pytest.approx([math.log(CLIP), -math.log(CLIP)], rel=1e-5)
    stacked = StackedLogistic(OWN_FITS, [0, 1, 2, 3])
    extreme = np.array([[0.0] * MEMBERS, [1.0] * MEMBERS])
    combined = stacked.combine(extreme, np.ones((2, MEMBERS), dtype=np.bool_))
    assert np.isfinite(combined).all()
    assert combined.tolist() == sorted(combined.tolist())


@pytest.mark.parametrize("cls", [WeightedMean, MajorityVote])
def test_negative_weights_are_refused(cls: Callable[[Floats], Strategy]) -> None:
    with pytest.raises(AssertionError):
        cls(np.array([1.0, -0.1]))
