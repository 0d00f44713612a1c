"""Scores events with the bundle's models, offline: every answer is there, none is late."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from combiner.intake import Member
from registry.bundle import LoadedBundle
from replay.table import AnswerTable
from streams.columns import Columns
from streams.mapping import decoder_of
from streams.settings import Settings
from workers.loading import load_models
from workers.scoring import called, score


class Scorer:
    """The models of a configuration that are ours to ask.

    Args:
        settings: the configuration.
        bundle: where trained models are.
        members: the columns, in the order of the configuration.

    Raises:
        BundleError, ConfigurationError: a model cannot be loaded.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: LoadedBundle,
        members: Sequence[Member],
    ) -> None:
        self._decoder = decoder_of(bundle.manifest.schema, settings.event)
        columns = {member.name: column for column, member in enumerate(members)}
        models = load_models(settings.models, bundle, settings.worker.threads_per_model)
        self._models = [(columns[model.name], model) for model in models]
        self._max_rows = settings.worker.max_batch

    def fill(self, table: AnswerTable, events: Columns) -> None:
        """Answer the good ones of N events."""
        decoded = self._decoder.decode(events.values, events.keys, events.timestamps_ms, str)
        offsets = events.offsets[decoded.positions]
        for start in range(0, len(offsets), self._max_rows):
            rows = slice(start, start + self._max_rows)
            matrix = np.ascontiguousarray(decoded.matrix[rows])
            matrix.flags.writeable = False
            for column, model in self._models:
                ask = partial(called, model.predict, columns=model.columns)
                scores = score(ask, matrix, model.minimum, model.maximum, model.columns)
                table.put(column, offsets[rows], scores.values, scores.refusals)
