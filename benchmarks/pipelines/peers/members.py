"""The five models and the events for the peers: their users would write just this.

The models are loaded by this project's adapters, so that each peer calls every library in its
fastest known way; or, told to be plain, as the manuals of the libraries show it.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.bundle import LoadedBundle, load_manifest, read_artefact
from registry.manifest import ModelEntry
from streams.settings import ModelSettings
from workers.loading import load_models


class Arguments(NamedTuple):
    """What each peer is started with."""

    servers: str
    events: str
    scored: str
    bundle: Path
    plain: bool


def arguments() -> Arguments:
    """From the command line."""
    servers, events, scored, bundle, *more = sys.argv[1:]
    return Arguments(servers, events, scored, Path(bundle), more == ["plain"])


Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Plain(NamedTuple):
    """A model called as its library's manual shows it."""

    name: str
    predict: Predict


def plainly(loaded: LoadedBundle, model: ModelEntry) -> Predict:
    """The probability of yes, as the library's manual shows it."""
    data = read_artefact(loaded, model.artefact)
    if model.format == "xgboost":
        from xgboost import XGBClassifier

        classifier = XGBClassifier()
        classifier.load_model(bytearray(data))
        return lambda matrix: classifier.predict_proba(matrix)[:, 1]
    if model.format == "lightgbm":
        from lightgbm import Booster

        return Booster(model_str=data.decode()).predict
    import skops.io

    estimator = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    return lambda matrix: estimator.predict_proba(matrix)[:, 1]


class Ensemble:
    """Five models and their mean."""

    def __init__(self, given: Arguments) -> None:
        loaded = load_manifest(given.bundle)
        members = loaded.manifest.models
        self.features = loaded.manifest.schema.names
        if given.plain:
            self.models = [Plain(member.name, plainly(loaded, member)) for member in members]
        else:
            settings = [ModelSettings(name=member.name) for member in members]
            self.models = load_models(settings, loaded)

    def matrix(self, events: Sequence[dict[str, float]]) -> NDArray[np.float64]:
        """float64[N, F]."""
        return np.array([[event[name] for name in self.features] for event in events])

    def scores(self, matrix: NDArray[np.float64]) -> list[float]:
        """N ensemble scores."""
        answers = [model.predict(matrix) for model in self.models]
        return np.mean(answers, axis=0).tolist()


decode = msgspec.json.decode
encode = msgspec.json.encode
