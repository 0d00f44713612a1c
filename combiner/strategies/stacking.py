"""Stacking: a linear meta-model over the members' answers (Wolpert, 1992), for any subset.

Logistic over log-odds for binary, multinomial over log-probabilities for multi-class, linear over
values for regression. A meta-model that was trained with all members says nothing sensible when
one of them is missing: setting its term to zero claims that it answered one half. Therefore each
subset has a meta-model of its own, trained on the same out-of-fold answers without the missing
members. Where there are too many subsets for that, the absent inputs are replaced by their
expectation given the present ones under a multivariate normal, and the full meta-model is used;
both are linear in what is present, so any subset is one intercept and one weight for each input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from combiner.strategies.arithmetic import filled, logit, logs, sigmoid, softmax, weighed
from combiner.strategies.protocol import ANY_TASK, Bools, Floats, Ingredients, Scale
from registry.manifest import Stacking, Task
from streams.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Link:
    """What a meta-model's sums have to do with answers.

    Attributes:
        inputs: from answers to what a meta-model takes, any shape.
        answers: from its float64[N, K] sums to answers.
        absent: what stands in an absent cell, before its weight of 0.
        scale: on which the sums are.
    """

    inputs: Callable[[Floats], Floats]
    answers: Callable[[Floats], Floats]
    absent: float
    scale: Scale


LINKS: dict[Task, Link] = {
    "binary": Link(logit, sigmoid, 0.5, "log_odds"),
    "multiclass": Link(logs, softmax, 1.0, "log"),
    "regression": Link(np.array, np.array, 0.0, "score"),
}


class Stacked:
    """Stacking with one meta-model for each subset of members.

    Args:
        fit: the trained meta-models.
        columns: the column of each of the fit's members; other columns play no part.
        task: which kind of meta-model.
        threshold: the score from which on the label is 1.

    A row in which none of the fit's members is present gets the mean of the answers that are.
    """

    name: ClassVar[str] = "stacking"
    tasks: ClassVar[frozenset[Task]] = ANY_TASK
    calibrated: ClassVar[bool] = False

    def __init__(
        self, fit: Stacking, columns: list[int], task: Task = "binary", threshold: float = 0.5
    ) -> None:
        assert len(columns) == len(fit.members)
        self.threshold = threshold
        self._link = LINKS[task]
        self.scale: Scale = self._link.scale
        self._fit = fit
        self._columns = np.array(columns, dtype=np.int64)
        self._bits = 2 ** np.arange(len(columns), dtype=np.int64)
        self._subsets: dict[int, tuple[Floats, Floats, Floats]] = {}

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the meta-models of the bundle.

        Raises:
            ConfigurationError: they were trained with other members than those configured.
        """
        manifest = ingredients.manifest
        columns = columns_of(manifest.stacking, ingredients, cls.name)
        return cls(manifest.stacking, columns, manifest.task, ingredients.threshold)

    def combine(self, answers: Floats, present: Bools, weights: Floats | None = None) -> Floats:
        """float64[N, K]: probabilities, or values."""
        terms, intercepts, known = self._terms(answers, present)
        combined = self._link.answers(terms.sum(axis=1) + intercepts)
        if not known.all():
            others = ~known
            alike = np.ones(present.shape[1])
            combined[others] = weighed(answers[others], present[others], alike).sum(axis=1)
        return combined

    def contributions(
        self, answers: Floats, present: Bools, weights: Floats | None = None
    ) -> Floats:
        """float64[N, M, K]: each member's share of the log-odds, the logarithm or the value.

        The intercept is nobody's.
        """
        terms, _, _ = self._terms(answers, present)
        shares = np.zeros(answers.shape)
        shares[:, self._columns] = terms
        return shares

    def _terms(self, answers: Floats, present: Bools) -> tuple[Floats, Floats, Bools]:
        """float64[N, S, K] weighted inputs, float64[N, K] intercepts, bool[N] any member there."""
        here = present[:, self._columns]
        inputs = self._link.inputs(filled(answers[:, self._columns], here, self._link.absent))
        masks, subset = np.unique(here @ self._bits, return_inverse=True)
        found = [self._subset(mask) for mask in masks.tolist() or [0]]
        intercepts = np.stack([intercept for intercept, _, _ in found])[subset]
        # float64[N, K, S, J]: the weight of the Jth number of member S for class K.
        slopes = np.stack([slope for _, slope, _ in found])[subset]
        if self._fit.inputs:
            intercepts += self._beside(np.stack([beside for _, _, beside in found])[subset])
        if slopes.shape[1:] == (1, len(self._columns), 1):
            terms = inputs * slopes[:, 0]
        else:
            terms = (inputs[:, None] * slopes).sum(axis=3).transpose(0, 2, 1)
        return terms, intercepts, np.asarray(here.any(axis=1))

    def _subset(self, mask: int) -> tuple[Floats, Floats, Floats]:
        """As `meta_model`, but weights float64[K, S, J]; of each subset once."""
        if mask not in self._subsets:
            here = (mask & self._bits) != 0
            intercepts, weights, beside = meta_model(self._fit, here)
            shape = (len(intercepts), len(here), self._fit.columns)
            self._subsets[mask] = (intercepts, weights.reshape(shape), beside)
        return self._subsets[mask]

    def _beside(self, weights: Floats) -> Floats:
        """float64[N, K], what the events themselves add, from float64[N, K, I] weights."""
        return np.zeros(weights.shape[:2])


def meta_model(fit: Stacking, here: Bools) -> tuple[Floats, Floats, Floats]:
    """The meta-model for one subset, bool[S], of the fit's members.

    Returns float64[K] intercepts, float64[K, S J] weights of the members' inputs, 0 where absent,
    and float64[K, I] weights of the inputs beside them.
    """
    everyone = "1" * len(here)
    text = "".join("1" if bit else "0" for bit in here.tolist())
    fits = fit.fits_of(text if text in fit.fits else everyone)
    intercepts = np.array([each.intercept for each in fits])
    weights = np.array([each.weights for each in fits]).reshape(len(fits), -1)
    own, beside = np.split(weights, [weights.shape[1] - len(fit.inputs)], axis=1)
    inputs = np.repeat(here, fit.columns)
    merged = np.zeros((len(fits), len(inputs)))
    if not here.any():
        return np.zeros(len(fits)), merged, np.zeros(beside.shape)
    if text in fit.fits:
        merged[:, inputs] = own
        return intercepts, merged, beside
    # E[absent | present] = mean_a + B (present - mean_p), B = C_ap C_pp^-1.
    mean, covariance = np.array(fit.means), np.array(fit.covariance)
    known = covariance[np.ix_(inputs, inputs)]
    slope = np.linalg.lstsq(known, covariance[np.ix_(inputs, ~inputs)])[0]
    merged[:, inputs] = own[:, inputs] + own[:, ~inputs] @ slope.T
    rest = mean[~inputs] - mean[inputs] @ slope
    return intercepts + own[:, ~inputs] @ rest, merged, beside


def columns_of(fit: Stacking, ingredients: Ingredients, name: str) -> list[int]:
    """The column of each of the fit's members.

    Raises:
        ConfigurationError: a member of the fit is not configured, or the other way round.
    """
    models = list(ingredients.models)
    lacking = [member for member in fit.members if member not in models]
    if lacking:
        raise ConfigurationError(
            "combiner.strategy",
            f"{name} needs the model `{lacking[0]}`; expected it among [[models]], "
            "or another strategy",
        )
    strange = [member for member in ingredients.members if member not in fit.members]
    if strange:
        raise ConfigurationError(
            "combiner.strategy",
            f"{name} was not trained with the model `{strange[0]}`; expected another strategy, "
            "or `reserve = true` for it",
        )
    return [models.index(member) for member in fit.members]
