"""Stacking whose meta-model sees the event's own features, too."""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from combiner.strategies.protocol import Floats, Ingredients
from combiner.strategies.stacking import Stacked, columns_of
from registry.manifest import MetaInput
from streams.errors import ConfigurationError


class StackedWithFeatures(Stacked):
    """As `stacking`, with the original features beside the members' answers.

    So the meta-model can know what kind of event it is (scikit-learn calls it `passthrough`). What
    the features add is nobody's contribution. A missing feature stands at its mean; before any
    features are `given`, all of them do.
    """

    name: ClassVar[str] = "stacking_with_features"
    _features: Floats | None = None

    @classmethod
    def made_of(cls, ingredients: Ingredients) -> Self:
        """With the meta-models of the bundle.

        Raises:
            ConfigurationError: there are none, or they were trained with other members.
        """
        fit = ingredients.manifest.stacking_with_features
        if fit is None:
            raise ConfigurationError(
                "combiner.strategy",
                "the bundle holds no meta-model with features; expected one that was trained with "
                "them, or another strategy",
            )
        columns = columns_of(fit, ingredients, cls.name)
        return cls(fit, columns, ingredients.manifest.task, ingredients.threshold)

    def given(self, features: Floats) -> Self:
        """The strategy for events with these float64[N, F] features, row by row."""
        bound = copy.copy(self)
        bound._features = meta_inputs(self._fit.inputs, features)  # noqa: SLF001 -- our own copy
        return bound

    def _beside(self, weights: Floats) -> Floats:
        if self._features is None:
            return super()._beside(weights)
        assert len(self._features) == len(weights), "features of other events"
        added: Floats = (weights * self._features[:, None]).sum(axis=2)
        return added


def meta_inputs(inputs: Sequence[MetaInput], features: Floats) -> Floats:
    """float64[N, I]: what a meta-model takes of float64[N, F] features; 0 where missing."""
    found = features[:, [each.feature for each in inputs]]
    codes = np.array([np.nan if each.code is None else each.code for each in inputs])
    values = np.where(np.isnan(codes), found, found == codes)
    values -= np.array([each.mean for each in inputs])
    values /= np.array([each.scale for each in inputs])
    return np.where(np.isnan(found), 0.0, values)
