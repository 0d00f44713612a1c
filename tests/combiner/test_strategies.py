"""Each strategy against somebody else's arithmetic; what all promise is in the contract battery."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import LabelEncoder

from combiner.catalogue import strategy_named
from combiner.strategies.arithmetic import CLIP, logit
from combiner.strategies.best_single import BestSingle
from combiner.strategies.blending import Blending
from combiner.strategies.equal_vote import EqualVote
from combiner.strategies.first_to_answer import FirstToAnswer
from combiner.strategies.geometric_mean import GeometricMean
from combiner.strategies.log_odds_pooling import LogOddsPooling
from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.maximum import Maximum
from combiner.strategies.mean import Mean
from combiner.strategies.median import Median
from combiner.strategies.minimum import Minimum
from combiner.strategies.protocol import Bools, Floats, Ingredients, Strategy
from combiner.strategies.rank_mean import RankMean
from combiner.strategies.stacking import Stacked
from combiner.strategies.stacking_with_features import StackedWithFeatures
from combiner.strategies.trimmed_mean import TrimmedMean
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import MetaInput, Stacking, StackingFit, Task
from streams.errors import ConfigurationError
from tests.combiner.strategy_kit import (
    MEMBERS,
    SUBSETS,
    TASKS,
    WEIGHTS,
    answers_in,
    event_features,
    fit_of,
    ingredients,
    manifest,
    mask_of,
    meta_features,
    reference,
    stacking,
    standardised,
    training_data,
)

RNG = np.random.default_rng(3)
PRESENT = np.array(SUBSETS * 64)
ROWS = len(PRESENT)
# Answers for each task, with rows in which members agree to the last bit.
ANSWERS = {
    task: answers_in(
        task, np.round(RNG.random((ROWS, MEMBERS, 3 if task == "multiclass" else 1)), 2)
    )
    for task in TASKS
}
each_task = pytest.mark.parametrize("task", TASKS)
each_subset = pytest.mark.parametrize("here", SUBSETS, ids=mask_of)
close: dict[str, float] = {"rtol": 0.0, "atol": 1e-9}


def everyone(count: int, members: int = MEMBERS) -> Bools:
    return np.ones((count, members), dtype=np.bool_)


def subset(here: tuple[bool, ...], count: int = ROWS) -> Bools:
    return np.broadcast_to(np.array(here), (count, MEMBERS))


def one_by_one(answers: Floats, of: Callable[[Floats], Floats]) -> Floats:
    """float64[N, K]: `of` of the present answers, float64[P, K], of each row."""
    return np.stack([of(row[here]) for row, here in zip(answers, PRESENT, strict=True)])


def shared(found: Floats) -> Floats:
    """Rows of several classes made to add up to 1."""
    return found / found.sum(axis=1, keepdims=True) if found.shape[1] > 1 else found


# -- means and order statistics, against numpy and scipy -------------------------------------


@each_task
def test_the_weighted_mean_is_numpys_average(task: Task) -> None:
    combined = WeightedMean(WEIGHTS).combine(ANSWERS[task], PRESENT)
    for row, (answers, here) in enumerate(zip(ANSWERS[task], PRESENT, strict=True)):
        weights = WEIGHTS[here] if WEIGHTS[here].any() else None
        expected = np.average(answers[here], axis=0, weights=weights)
        np.testing.assert_allclose(combined[row], expected, **close)


@each_task
@pytest.mark.parametrize(
    ("strategy", "of"),
    [
        (Mean(), lambda rows: rows.mean(axis=0)),
        (Median(), lambda rows: np.median(rows, axis=0)),
        (Minimum(), lambda rows: rows.min(axis=0)),
        (Maximum(), lambda rows: rows.max(axis=0)),
        (TrimmedMean(0.3), lambda rows: stats.trim_mean(rows, 0.3, axis=0)),
        (TrimmedMean(0.0), lambda rows: rows.mean(axis=0)),
    ],
    ids=["mean", "median", "minimum", "maximum", "trimmed", "trimmed by nothing"],
)
def test_order_statistics_are_numpys_and_scipys(
    strategy: Strategy, of: Callable[[Floats], Floats], task: Task
) -> None:
    combined = strategy.combine(ANSWERS[task], PRESENT)
    np.testing.assert_allclose(combined, shared(one_by_one(ANSWERS[task], of)), **close)


def test_the_trimmed_mean_of_five_leaves_three_at_a_fifth() -> None:
    answers = np.array([0.9, 0.1, 0.3, 0.4, 0.2]).reshape(1, 5, 1)
    found = TrimmedMean(0.2).combine(answers, everyone(1, 5))
    np.testing.assert_allclose(found, [[0.3]], **close)


def test_the_median_of_one_is_that_one_to_the_last_bit() -> None:
    alone, answers = np.eye(MEMBERS, dtype=np.bool_), ANSWERS["binary"][:MEMBERS]
    assert Median().combine(answers, alone)[:, 0].tolist() == np.diag(answers[:, :, 0]).tolist()


@pytest.mark.parametrize("strategy", [Median(), Minimum()], ids=["median", "minimum"])
def test_where_no_class_has_anything_left_the_mean_stands_in(strategy: Strategy) -> None:
    answers = np.eye(3)[None]
    np.testing.assert_allclose(strategy.combine(answers, everyone(1, 3)), [[1 / 3] * 3], **close)
    shares = strategy.contributions(answers, everyone(1, 3))
    np.testing.assert_allclose(shares.sum(axis=1), [[1 / 3] * 3], **close)


# -- pooling, against scipy ------------------------------------------------------------------


def test_the_geometric_mean_is_scipys() -> None:
    answers = np.clip(ANSWERS["binary"], 0.01, 1)
    combined = GeometricMean(np.ones(MEMBERS)).combine(answers, PRESENT)
    np.testing.assert_allclose(combined, one_by_one(answers, stats.gmean), **close)


def test_of_several_classes_the_geometric_mean_adds_up_to_one() -> None:
    answers = np.clip(ANSWERS["multiclass"], 0.01, 1)
    combined = GeometricMean(np.ones(MEMBERS)).combine(answers, PRESENT)
    np.testing.assert_allclose(combined, shared(one_by_one(answers, stats.gmean)), **close)


def test_no_member_has_a_veto_for_good() -> None:
    answers = np.array([[[0.0], [0.9]]])
    [[found]] = GeometricMean(np.ones(2)).combine(answers, everyone(1, 2))
    assert found == pytest.approx(math.sqrt(CLIP * 0.9))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_pooled_odds_are_the_geometric_mean_of_odds(task: Task) -> None:
    answers = np.clip(ANSWERS[task], 0.01, 0.99)
    combined = LogOddsPooling(np.ones(MEMBERS)).combine(answers, PRESENT)
    odds = one_by_one(answers / (1 - answers), stats.gmean)
    np.testing.assert_allclose(combined, shared(odds / (1 + odds)), **close)


def test_pooling_log_odds_treats_both_classes_alike() -> None:
    pooling, answers = LogOddsPooling(WEIGHTS), ANSWERS["binary"]
    np.testing.assert_allclose(
        pooling.combine(1 - answers, PRESENT), 1 - pooling.combine(answers, PRESENT), **close
    )


def test_certainty_has_a_limit() -> None:
    assert logit(np.array([0.0, 1.0])) == pytest.approx([math.log(CLIP), -math.log(CLIP)], rel=1e-5)
    stacked = Stacked(stacking("binary"), [0, 1, 2, 3])
    extreme = np.repeat([[[0.0]], [[1.0]]], MEMBERS, axis=1)
    combined = stacked.combine(extreme, everyone(2))[:, 0]
    assert np.isfinite(combined).all()
    assert combined.tolist() == sorted(combined.tolist())


# -- ranks, against scipy --------------------------------------------------------------------


def references(rng: np.random.Generator) -> list[Floats]:
    """What three models said in training: on three scales, one of them coarse."""
    return [rng.normal(0, 1, 1000), rng.exponential(50, 1000), np.round(rng.random(1000), 1)]


def quantiles(answers: Floats) -> Floats:
    return np.quantile(answers, np.linspace(0, 1, 101))[None]


def test_mean_ranks_are_scipys() -> None:
    seen = references(np.random.default_rng(1))
    ranking = RankMean([quantiles(one) for one in seen], np.ones(3))
    new = np.stack([one[:300] for one in seen], axis=1)[:, :, None]
    ranks = ranking.contributions(new, everyone(300, 3)) * 3
    for member, one in enumerate(seen):
        expected = stats.percentileofscore(one, new[:, member, 0], kind="mean") / 100
        # A hundred quantiles know a rank to a hundredth.
        np.testing.assert_allclose(ranks[:, member, 0], expected, rtol=0, atol=0.011)
    combined = ranking.combine(new, everyone(300, 3))[:, 0]
    assert stats.spearmanr(combined, ranks.sum(axis=(1, 2))).statistic > 0.9999


def test_a_mean_rank_is_read_back_on_the_members_own_scale() -> None:
    one, other = np.linspace(0, 1, 101), np.linspace(0, 3, 101)
    ranking = RankMean([one[None], other[None]], np.ones(2))
    alone = np.array([[True, False], [False, True], [True, True]])
    answers = np.array([[[0.25], [0.0]], [[0.0], [0.75]], [[0.25], [0.75]]])
    # A quarter of each: the same event, whoever is there to say so.
    np.testing.assert_allclose(ranking.combine(answers, alone), [[0.5]] * 3, **close)
    beyond = np.array([[[-5.0], [9.0]]])
    np.testing.assert_allclose(ranking.combine(beyond, everyone(1, 2)), [[1.0]], **close)


def test_classes_of_which_nothing_was_ever_seen_are_equally_likely() -> None:
    nothing = np.zeros((3, 101))
    ranking = RankMean([nothing, nothing], np.ones(2))
    found = ranking.combine(np.full((1, 2, 3), 1 / 3), everyone(1, 2))
    np.testing.assert_allclose(found, [[1 / 3] * 3], **close)


# -- one member alone ------------------------------------------------------------------------


def test_the_best_of_those_present_speaks_alone() -> None:
    strategy = BestSingle(np.array([-0.3, -0.1, -0.2, -0.1]))
    combined = strategy.combine(ANSWERS["regression"], PRESENT)
    for row, here in enumerate(PRESENT.tolist()):
        best = next(member for member in (1, 3, 2, 0) if here[member])
        assert combined[row] == ANSWERS["regression"][row, best]


def test_of_those_that_have_answered_the_most_valuable_speaks_alone() -> None:
    combined = FirstToAnswer(WEIGHTS).combine(ANSWERS["multiclass"], PRESENT)
    for row, here in enumerate(PRESENT.tolist()):
        first = next(member for member in (1, 3, 0, 2) if here[member])
        assert np.array_equal(combined[row], ANSWERS["multiclass"][row, first])


def test_blending_is_the_mean_under_the_learned_weights() -> None:
    learned = np.array([0.1, 0.4, 0.5, 0.0])
    made = Blending.made_of(ingredients("multiclass"))
    expected = WeightedMean(learned).combine(ANSWERS["multiclass"], PRESENT)
    assert np.array_equal(made.combine(ANSWERS["multiclass"], PRESENT), expected)


# -- voting, against scikit-learn ------------------------------------------------------------


class Oracle(BaseEstimator):
    """An estimator that has its answers already; the rows' first feature says which."""

    def __init__(self, answers: Floats) -> None:
        self.answers = answers

    def predict_proba(self, rows: Floats) -> Floats:
        chosen = self.answers[rows[:, 0].astype(int)]
        return np.column_stack([1 - chosen, chosen]) if chosen.shape[1] == 1 else chosen

    def predict(self, rows: Floats) -> Floats:
        return self.predict_proba(rows).argmax(axis=1)


class Value(Oracle):
    def predict(self, rows: Floats) -> Floats:
        return self.answers[rows[:, 0].astype(int), 0]


INDICES = np.arange(ROWS, dtype=np.float64)[:, None]


def voting(task: Task, here: tuple[bool, ...], how: str, weights: Floats | None) -> Any:
    """scikit-learn's voting over the present members, as if it had been fitted."""
    kind = Value if task == "regression" else Oracle
    members = [kind(ANSWERS[task][:, column]) for column in np.flatnonzero(here)]
    named = [(str(i), member) for i, member in enumerate(members)]
    chosen = None if weights is None else weights[list(here)]
    if task == "regression":
        voter: Any = VotingRegressor(named, weights=chosen)
    else:
        voter = VotingClassifier(named, voting=how, weights=chosen)
        voter.le_ = LabelEncoder().fit(range(3 if task == "multiclass" else 2))
        voter.classes_ = voter.le_.classes_
    voter.estimators_ = members
    return voter


WEIGHED = [here for here in SUBSETS if WEIGHTS[list(here)].any()]


@pytest.mark.parametrize("here", WEIGHED, ids=mask_of)
def test_soft_voting_is_scikit_learns(here: tuple[bool, ...]) -> None:
    for task in TASKS:
        for strategy, weights in ((WeightedMean(WEIGHTS), WEIGHTS), (Mean(), None)):
            voter = voting(task, here, "soft", weights)
            found = strategy.combine(ANSWERS[task], subset(here))
            match task:
                case "binary":
                    expected = voter.predict_proba(INDICES)[:, 1:]
                case "multiclass":
                    expected = voter.predict_proba(INDICES)
                case "regression":
                    expected = voter.predict(INDICES)[:, None]
            np.testing.assert_allclose(found, expected, **close)


@pytest.mark.parametrize("here", WEIGHED, ids=mask_of)
def test_hard_voting_is_scikit_learns(here: tuple[bool, ...]) -> None:
    for strategy, weights in ((MajorityVote(WEIGHTS), WEIGHTS), (EqualVote(MEMBERS), None)):
        labels = voting("multiclass", here, "hard", weights).predict(INDICES)
        found = strategy.combine(ANSWERS["multiclass"], subset(here))
        # Its ties go to the first class as well.
        assert np.array_equal(found.argmax(axis=1), labels)
        share = strategy.combine(ANSWERS["binary"], subset(here))[:, 0]
        # There a member votes yes above one half and a tie says no; here from one half on.
        clear = (np.abs(share - 0.5) > 1e-9) & (ANSWERS["binary"] != 0.5).all(axis=(1, 2))
        assert clear.any()
        labels = voting("binary", here, "hard", weights).predict(INDICES)
        assert np.array_equal((share >= 0.5).astype(int)[clear], labels[clear])


@pytest.mark.parametrize("members", range(2, 65, 2))
def test_a_tie_of_equal_voters_says_yes(members: int) -> None:
    vote = EqualVote(members)
    half = np.arange(members) < members // 2
    answers = np.stack([np.roll(half, shift) for shift in range(members)]).astype(np.float64)
    combined = vote.combine(answers[:, :, None], everyone(members, members))
    assert (combined >= vote.threshold).all()


def test_a_tie_of_decimal_weights_says_yes() -> None:
    vote = MajorityVote(np.array([0.1, 0.2, 0.3]))
    answers = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])[:, :, None]
    assert vote.combine(answers, everyone(2, 3))[:, 0].tolist() == [0.5, 0.5]


def test_a_tie_of_decimal_weights_goes_to_the_first_class() -> None:
    vote = MajorityVote(np.array([0.1, 0.2, 0.3]))
    answers = np.array([[[0, 0, 1], [0, 0, 1], [0, 1, 0]], [[0, 1, 0], [0, 1, 0], [0, 0, 1]]])
    shares = vote.combine(answers.astype(np.float64), everyone(2, 3))
    assert shares.tolist() == [[0.0, 0.5, 0.5]] * 2
    assert shares.argmax(axis=1).tolist() == [1, 1]


def test_a_member_votes_yes_from_its_threshold_on() -> None:
    vote = MajorityVote(np.ones(1), vote_threshold=0.7)
    answers = np.array([[[0.7]], [[math.nextafter(0.7, 0.0)]]])
    assert vote.combine(answers, everyone(2, 1))[:, 0].tolist() == [1.0, 0.0]


# -- stacking, against scikit-learn ----------------------------------------------------------


@each_task
@each_subset
@pytest.mark.parametrize("features", [False, True], ids=["alone", "with features"])
def test_stacking_is_scikit_learns_for_every_subset_with_a_fit_of_its_own(
    here: tuple[bool, ...], task: Task, *, features: bool
) -> None:
    answers, _ = training_data(task)
    matrix = meta_features(answers[:, list(here)], task)
    if features:
        matrix = np.column_stack([matrix, standardised(event_features())])
        fit = stacking(task, features=True)
        strategy: Strategy = StackedWithFeatures(fit, [0, 1, 2, 3], task).given(event_features())
    else:
        strategy = Stacked(stacking(task), [0, 1, 2, 3], task)
    combined = strategy.combine(answers, subset(here, len(answers)))
    model = reference(task, mask_of(here), features=features)
    match task:
        case "binary":
            expected = model.predict_proba(matrix)[:, 1:]
        case "multiclass":
            expected = model.predict_proba(matrix)
        case "regression":
            expected = model.predict(matrix)[:, None]
    np.testing.assert_allclose(combined, expected, **close)


class Fitted(BaseEstimator):
    """A member that has its answers already."""

    def __init__(self, answers: Floats) -> None:
        self.answers = answers

    def fit(self, rows: Floats, truth: Any) -> "Fitted":
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def found(self, rows: Floats) -> Floats:
        return self.answers[rows[:, 0].astype(int)]


class Classifier(ClassifierMixin, Fitted):
    """Its decision function gives log-odds, or log-probabilities."""

    def decision_function(self, rows: Floats) -> Floats:
        found = self.found(rows)
        return logit(found)[:, 0] if found.shape[1] == 1 else np.log(found)


class Regressor(RegressorMixin, Fitted):
    def predict(self, rows: Floats) -> Floats:
        return self.found(rows)[:, 0]


@each_task
@pytest.mark.parametrize("passthrough", [False, True], ids=["alone", "with features"])
def test_stacking_is_scikit_learns_stacking(task: Task, *, passthrough: bool) -> None:
    """The whole class: members that were fitted before, the meta-model on their answers."""
    answers, truth = training_data(task)
    features = np.column_stack([np.arange(len(truth)), RNG.normal(size=len(truth))])
    kind = Regressor if task == "regression" else Classifier
    members = [(f"m{i}", kind(answers[:, i])) for i in range(MEMBERS)]
    common: dict[str, Any] = {"cv": "prefit", "passthrough": passthrough}
    if task == "regression":
        model: Any = StackingRegressor(members, LinearRegression(), **common)
        expected = model.fit(features, truth).predict(features)[:, None]
    else:
        final = LogisticRegression(max_iter=5000)
        model = StackingClassifier(members, final, stack_method="decision_function", **common)
        expected = model.fit(features, truth).predict_proba(features)
        expected = expected[:, 1:] if task == "binary" else expected
    inputs = meta_features(answers, task)
    fit = Stacking(
        tuple(name for name, _ in members),
        {"1" * MEMBERS: fit_of(model.final_estimator_)},
        (0.0,) * inputs.shape[1],
        ((0.0,) * inputs.shape[1],) * inputs.shape[1],
        answers.shape[2],
        (MetaInput(0, 0.0, 1.0), MetaInput(1, 0.0, 1.0)) if passthrough else (),
    )
    strategy = StackedWithFeatures(fit, [0, 1, 2, 3], task).given(features)
    np.testing.assert_allclose(
        strategy.combine(answers, everyone(len(answers))), expected, rtol=1e-9, atol=1e-9
    )


def expected_inputs(inputs: Floats, here: tuple[bool, ...], fit: Stacking) -> Floats:
    """Absent inputs given the present ones, by the precision matrix, one row at a time.

    With L the inverse covariance, E[a | p] = mean_a - L_aa^-1 L_ap (p - mean_p): another road
    to the same place than the regression on the covariance.
    """
    yes = np.repeat(np.array(here), fit.columns)
    no = ~yes
    mean, precision = np.array(fit.means), np.linalg.inv(np.array(fit.covariance))
    found = inputs.copy()
    for row in found:
        shift = precision[np.ix_(no, yes)] @ (row[yes] - mean[yes])
        row[no] = mean[no] - np.linalg.solve(precision[np.ix_(no, no)], shift)
    return found


@each_task
@pytest.mark.parametrize("here", [s for s in SUBSETS if not all(s)], ids=mask_of)
def test_without_a_fit_of_its_own_a_subset_stands_on_the_expectation_of_the_absent(
    here: tuple[bool, ...], task: Task
) -> None:
    answers, fit = training_data(task)[0][:100], stacking(task, own=False)
    combined = Stacked(fit, [0, 1, 2, 3], task).combine(answers, subset(here, 100))
    inputs = expected_inputs(meta_features(answers, task), here, fit)
    model = reference(task, "1" * MEMBERS)
    expected = (
        model.predict(inputs)[:, None] if task == "regression" else model.predict_proba(inputs)
    )
    expected = expected[:, 1:] if task == "binary" else expected
    np.testing.assert_allclose(combined, expected, rtol=0, atol=1e-7)


def test_members_that_always_agree_can_stand_in_for_each_other() -> None:
    """The covariance of equal members is singular; the expectation is still the other one."""
    fit = Stacking(
        ("a", "b", "c"),
        {"111": StackingFit(-0.3, (0.5, 0.25, 1.0))},
        (0.1, 0.1, -0.2),
        ((1.0, 1.0, 0.2), (1.0, 1.0, 0.2), (0.2, 0.2, 2.0)),
    )
    stacked = Stacked(fit, [0, 1, 2])
    answers = np.array([[[0.8], [0.8], [0.3]]])
    full = stacked.combine(answers, np.array([[True, True, True]]))
    without = stacked.combine(answers, np.array([[True, False, True]]))
    np.testing.assert_allclose(without, full, **close)


def test_stacking_finds_its_members_by_column_and_leaves_the_others_alone() -> None:
    answers = ANSWERS["binary"][:50]
    direct = Stacked(stacking("binary"), [0, 1, 2, 3])
    moved = Stacked(stacking("binary"), [4, 2, 0, 1])
    strange = RNG.random((50, 1))
    wide = np.stack([answers[:, 2], answers[:, 3], answers[:, 1], strange, answers[:, 0]], axis=1)
    found = moved.combine(wide, everyone(50, 5))
    assert np.array_equal(found, direct.combine(answers, everyone(50)))
    assert (moved.contributions(wide, everyone(50, 5))[:, 3] == 0).all()


def test_rows_without_any_stacked_member_get_the_mean_of_the_others() -> None:
    pair = Stacking(("a",), {"1": StackingFit(0.0, (1.0,))}, (0.0,), ((1.0,),))
    answers = np.array([[np.nan, 0.2, 0.6], [0.7, 0.1, 0.1]])[:, :, None]
    present = np.array([[False, True, True], [True, True, True]])
    np.testing.assert_allclose(
        Stacked(pair, [0]).combine(answers, present), [[0.4], [0.7]], **close
    )


def test_without_features_all_of_them_count_as_missing() -> None:
    strategy = StackedWithFeatures(stacking("binary", features=True), [0, 1, 2, 3])
    answers = ANSWERS["binary"][:20]
    missing = strategy.given(np.full((20, 2), np.nan))
    assert np.array_equal(
        strategy.combine(answers, everyone(20)), missing.combine(answers, everyone(20))
    )
    with pytest.raises(AssertionError, match="features of other events"):
        missing.combine(answers[:10], everyone(10))


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cls", [WeightedMean, MajorityVote, GeometricMean, LogOddsPooling, Blending]
)
def test_negative_weights_are_refused(cls: Callable[[Floats], Strategy]) -> None:
    with pytest.raises(AssertionError):
        cls(np.array([1.0, -0.1]))


@pytest.mark.parametrize("name", ["rank_mean", "blending", "best_single"])
def test_a_member_of_which_training_learned_nothing_is_refused_by_name(name: str) -> None:
    known = ingredients("binary")
    models = [*known.models, "rules"]

    def with_rules(*, reserve: bool) -> Ingredients:
        reserves = np.array([False] * MEMBERS + [reserve])
        weights = np.ones(MEMBERS + 1)
        return Ingredients(models, reserves, weights, 0.5, 0.2, known.manifest)

    with pytest.raises(ConfigurationError, match="`rules`"):
        strategy_named(name, with_rules(reserve=False))
    made = strategy_named(name, with_rules(reserve=True))
    present = np.column_stack([PRESENT, np.zeros(ROWS, dtype=np.bool_)])
    answers = np.concatenate([ANSWERS["binary"], np.full((ROWS, 1, 1), np.nan)], axis=1)
    assert np.isfinite(made.combine(answers, present)).all()


@pytest.mark.parametrize("name", ["stacking", "stacking_with_features"])
def test_stacking_refuses_other_members_than_it_was_trained_with(name: str) -> None:
    known = ingredients("binary")

    def with_models(models: list[str]) -> Ingredients:
        nobody = np.zeros(len(models), dtype=np.bool_)
        return Ingredients(models, nobody, np.ones(len(models)), 0.5, 0.2, known.manifest)

    with pytest.raises(ConfigurationError, match=f"{name} needs the model `m3`"):
        strategy_named(name, with_models(["m0", "m1", "m2"]))
    with pytest.raises(ConfigurationError, match=f"{name} was not trained with the model `rules`"):
        strategy_named(name, with_models(["m0", "m1", "m2", "m3", "rules"]))


def test_a_bundle_without_a_meta_model_for_features_is_refused() -> None:
    known = ingredients("binary")
    bare = msgspec.structs.replace(manifest("binary"), stacking_with_features=None)
    with pytest.raises(ConfigurationError, match="holds no meta-model with features"):
        strategy_named(
            "stacking_with_features",
            Ingredients(known.models, known.reserves, WEIGHTS, 0.5, 0.2, bare),
        )
