"""From joined answers to final scores: calibrate, find the rung, combine, label, say so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.latest import NO_LABEL, Latest, LatestScore
from combiner.calibration import Calibrator
from combiner.explanation import Explanation, Labels, explain
from combiner.facts import Facts
from combiner.fallback import CACHED, PARTIAL, PRIOR, RESERVE, Ladder
from combiner.outcome import BINARY, Outcome
from combiner.refinement import NO_REFINEMENT, Promises, Refinement
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, Settled
from combiner.strategies.protocol import Strategy, UsesFeatures
from combiner.strategies.weighted_mean import WeightedMean
from streams.instants import WallMs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Recall = Callable[[Sequence[str]], Sequence[Latest | None]]

_AMOUNT = ("regression", NO_LABEL)
# Sums of a few shares differ from 0 by less than this.
_NO_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True)
class Decisions:
    """Final scores of N events, M models, K numbers a score.

    Attributes:
        scores: float64[N, K].
        labels: int64[N], see `combiner.outcome`.
        confidence: float64[N].
        rungs: int8[N], places in `combiner.fallback.RUNGS`.
        used: bool[N, M], whose answers made the score.
        calibrated: float64[N, M, K], answers as probabilities; NaN where there is none.
        contributions: float64[N, M, K], or None when not asked for.
        explanation: likewise.
        cached_at_ms: when a cached score was made, by row.
        promises: what holds the truth as often as promised; None when not asked for.
    """

    scores: Floats
    labels: NDArray[np.int64]
    confidence: Floats
    rungs: NDArray[np.int8]
    used: Bools
    calibrated: Floats
    contributions: Floats | None
    cached_at_ms: dict[int, WallMs]
    explanation: Explanation | None = None
    promises: Promises | None = None


@dataclass(frozen=True, slots=True)
class DecisionConfig:
    """What a decision needs beside the answers.

    Attributes:
        weights: float64[M].
        prior: the K numbers of the score when nothing is known.
        threshold: from which probability on a member, a cached score or the prior says 1.
        cached_max_age_ms: an older cached score is not used.
        explain: whether contributions are worked out.
        outcome: what is predicted.
        cascade: whether some models are asked for some events only.
    """

    weights: Floats
    prior: Sequence[float]
    threshold: float
    cached_max_age_ms: int
    explain: bool
    outcome: Outcome = BINARY
    cascade: bool = False

    def __post_init__(self) -> None:
        assert len(self.prior) == self.outcome.columns


class Decider:
    """Turns settled rows into decisions.

    Args:
        config: see there.
        ladder: the rungs in use.
        calibrator: raw answers to probabilities.
        strategy: how the members' answers are combined; reserves are averaged by weight.
        recall: the latest scores of some entities; the only thing asked of the outside, and it
            must answer at once, with None for what it does not know.
        refinement: who counts, and what is made of the strategy's scores.
    """

    def __init__(
        self,
        config: DecisionConfig,
        ladder: Ladder,
        calibrator: Calibrator,
        strategy: Strategy,
        recall: Recall,
        refinement: Refinement = NO_REFINEMENT,
    ) -> None:
        self._config = config
        self._ladder = ladder
        self._calibrator = calibrator
        self._strategy = strategy
        # What was trained on the members knows nothing of the reserves.
        self._reserve_strategy = WeightedMean(config.weights, config.threshold)
        self._recall = recall
        self._refinement = refinement
        members = ~ladder.reserves
        weights = config.weights if config.weights[members].any() else np.ones(len(members))
        self._weight_shares: Floats = weights / weights[members].sum()

    @property
    def outcome(self) -> Outcome:
        """What is predicted."""
        return self._config.outcome

    def heed(self, expected: Bools) -> None:
        """Other members are waited for than before: bool[M]."""
        self._refinement.heed(expected & ~self._ladder.reserves)

    def decide(
        self,
        settled: Settled,
        entities: Sequence[str],
        now_ms: WallMs,
        facts: Facts | None = None,
    ) -> Decisions:
        """Decide N events; rows of bad events hold the prior and are not to be used.

        Without `facts` nobody is selected, no set is promised, and features count as missing.
        """
        present = settled.states == ANSWERED
        unasked = settled.states == NOT_ASKED if self._config.cascade else None
        rungs = self._ladder.rungs_of(present, unasked)
        used = self._ladder.used(present, rungs)
        outcome, threshold = self._config.outcome, self._config.threshold
        raw = np.where(present[:, :, None], settled.scores, np.nan)
        calibrated = self._calibrator.apply(raw)
        scores = np.tile(np.array(self._config.prior), (len(settled), 1))
        labels = outcome.labels(scores, threshold)
        contributions = np.zeros(raw.shape) if self._config.explain else None
        explanation = Explanation.nothing(*raw.shape) if self._config.explain else None
        promises: Promises | None = None
        for strategy, rows, refinement in (
            (self._strategy, np.flatnonzero(rungs <= PARTIAL), self._refinement),
            (self._reserve_strategy, np.flatnonzero(rungs == RESERVE), NO_REFINEMENT),
        ):
            if not len(rows):
                continue
            answers = (calibrated if strategy.calibrated else raw)[rows]
            here = None if facts is None else facts.take(rows)
            way = _Way(strategy, refinement, answers, calibrated[rows], here)
            candidates = used[rows]
            found = way.score(candidates)
            scores[rows], used[rows] = found.scores, found.used
            labels[rows] = outcome.labels(found.scores, strategy.threshold)
            if found.promises is not None:
                promises = found.promises.spread(len(settled), rows)
            if contributions is not None and explanation is not None:
                contributions[rows] = way.contributions(found)
                explanation.put(rows, self._explained(way, found, candidates))
        cached_at_ms = self._from_cache(settled, entities, rungs, scores, labels, now_ms)
        agrees = used & (outcome.labels(calibrated, threshold) == labels[:, None])
        return Decisions(
            scores, labels, self._confidence(agrees, unasked), rungs, used, calibrated,
            contributions, cached_at_ms, explanation, promises,
        )  # fmt: skip

    def _confidence(self, agrees: Bools, unasked: Bools | None) -> Floats:
        """float64[N]: the share of the members that were asked, by weight, that agree."""
        shares: Floats = (agrees * self._weight_shares).sum(axis=1)
        if unasked is not None:
            asked = 1.0 - (unasked * self._weight_shares).sum(axis=1)
            shares = np.divide(shares, asked, out=np.zeros_like(shares), where=asked > _NO_WEIGHT)
        return np.minimum(shares, 1.0)

    def _explained(self, way: "_Way", found: "_Scored", candidates: Bools) -> Explanation:
        outcome, threshold = self._config.outcome, self._config.threshold
        labels = None
        if outcome.task != "regression":
            labels = Labels(
                lambda scores: outcome.labels(scores, way.strategy.threshold),
                lambda scores: outcome.labels(scores, threshold),
            )
        return explain(
            way.rescore, way.opinions, found.used, candidates, found.scores,
            self._weight_shares, labels,
        )  # fmt: skip

    def in_hindsight(
        self, answers: Floats, states: NDArray[np.uint8], facts: Facts | None = None
    ) -> tuple[Floats, NDArray[np.int64], Bools]:
        """What would be decided with some answers, whatever the cache knows.

        Returns float64[L, K] scores, int64[L] labels, and bool[L], whether there are enough
        answers for a score of their own: the others hold the prior.
        """
        count = len(states)
        nothing = np.zeros(count, dtype=np.int64)
        settled = Settled(
            nothing, nothing, answers, states, nothing, np.zeros(count, np.bool_), {},
            np.zeros(count, np.bool_),
        )  # fmt: skip
        decisions = self.decide(settled, [], WallMs(0), facts)
        return decisions.scores, decisions.labels, decisions.rungs < CACHED

    def _from_cache(
        self,
        settled: Settled,
        entities: Sequence[str],
        rungs: NDArray[np.int8],
        scores: Floats,
        labels: NDArray[np.int64],
        now_ms: WallMs,
    ) -> dict[int, WallMs]:
        """Fill the rows on the cached rung; those of which nothing is known fall to the prior."""
        rows = np.flatnonzero((rungs == CACHED) & settled.scoreable).tolist()
        if not rows:
            return {}
        cached_at_ms: dict[int, WallMs] = {}
        found = self._recall([entities[row] for row in rows])
        for row, latest in zip(rows, found, strict=True):
            if latest is None or latest.age_ms(now_ms) > self._config.cached_max_age_ms:
                rungs[row] = PRIOR
                continue
            known = self._read(latest)
            if known is None:
                rungs[row] = PRIOR
                continue
            scores[row], labels[row] = known
            cached_at_ms[row] = latest.scored_at_ms
        return cached_at_ms

    def _read(self, latest: Latest) -> tuple[list[float], int] | None:
        """A cached score and its label; None if it is of another task or of other classes."""
        outcome = self._config.outcome
        if isinstance(latest, LatestScore):
            fits = (outcome.task, latest.label) in {("binary", 0), ("binary", 1), _AMOUNT}
            return ([latest.score], latest.label) if fits else None
        shares = outcome.in_order(latest.scores)
        return None if shares is None else (shares, outcome.classes.index(latest.label))


@dataclass(frozen=True, slots=True)
class _Scored:
    """What came of N events: float64[N, K], bool[N, M], and what `Refinement` says beside it."""

    scores: Floats
    used: Bools
    weights: Floats | None
    promises: Promises | None


@dataclass(frozen=True, slots=True)
class _Way:
    """How events of one rung come to their scores.

    `answers` are float64[N, M, K] as the strategy wants them, `opinions` the same calibrated.
    """

    strategy: Strategy
    refinement: Refinement
    answers: Floats
    opinions: Floats
    facts: Facts | None

    def score(self, candidates: Bools) -> _Scored:
        """Choose among bool[N, M] who answered, combine, and refine."""
        used, weights = self.refinement.chosen(self.facts, candidates)
        combined = self._looking().combine(self.answers, used, weights)
        scores, promises = self.refinement.finished(combined, self.opinions, used, self.facts)
        return _Scored(scores, used, weights, promises)

    def rescore(self, rows: NDArray[np.int64], candidates: Bools) -> Floats:
        """float64[L, K]: the scores of some events had just bool[L, M] answered."""
        facts = None if self.facts is None else self.facts.take(rows)
        some = _Way(self.strategy, self.refinement, self.answers[rows], self.opinions[rows], facts)
        return some.score(candidates).scores

    def contributions(self, found: _Scored) -> Floats:
        """float64[N, M, K]: what each member brought."""
        return self._looking().contributions(self.answers, found.used, found.weights)

    def _looking(self) -> Strategy:
        """The strategy for events with these features, if it uses any."""
        if isinstance(self.strategy, UsesFeatures) and self.facts is not None:
            return self.strategy.given(self.facts.features)
        return self.strategy


class Absences:
    """Who is missing and why, or was not asked; worked out once for each pattern of cells."""

    def __init__(self, models: Sequence[str], reserves: Bools) -> None:
        self._models = models
        self._reserves = reserves

    def missing(
        self, states: NDArray[np.uint8], waited_for: Bools, *, hurried: bool
    ) -> dict[str, str]:
        """Model → why, for uint8[M] states of one event.

        `hurried`: whether it left for its quorum, without waiting for the others.
        """
        why: dict[str, str] = {}
        for column, model in enumerate(self._models):
            if self._reserves[column] or states[column] in {ANSWERED, NOT_ASKED}:
                continue
            if states[column] == REFUSED:
                why[model] = "refused"
            elif not waited_for[column]:
                why[model] = "failed"
            else:
                why[model] = "not awaited" if hurried else "late"
        return why

    def not_asked(self, states: NDArray[np.uint8]) -> Sequence[str]:
        """The models that a cascade did not ask about an event, of its uint8[M] states."""
        if not (states == NOT_ASKED).any():
            return ()
        return [self._models[column] for column in np.flatnonzero(states == NOT_ASKED).tolist()]
