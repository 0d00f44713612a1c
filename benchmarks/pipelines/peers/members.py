"""The five models and the events for the peers: their users would write just this.

The models are loaded by this project's adapters, so that each peer calls every library in its
fastest known way.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.bundle import load_manifest
from streams.settings import ModelSettings
from workers.loading import load_models


class Arguments(NamedTuple):
    """What each peer is started with."""

    servers: str
    events: str
    scored: str
    bundle: Path


def arguments() -> Arguments:
    """From the command line."""
    servers, events, scored, bundle = sys.argv[1:5]
    return Arguments(servers, events, scored, Path(bundle))


class Ensemble:
    """Five models and their mean."""

    def __init__(self, bundle: Path) -> None:
        loaded = load_manifest(bundle)
        names = [model.name for model in loaded.manifest.models]
        self.features = loaded.manifest.schema.names
        self.models = load_models([ModelSettings(name=name) for name in names], loaded)

    def matrix(self, events: Sequence[dict[str, float]]) -> NDArray[np.float64]:
        """float64[N, F]."""
        return np.array([[event[name] for name in self.features] for event in events])

    def scores(self, matrix: NDArray[np.float64]) -> list[float]:
        """N ensemble scores."""
        answers = [model.predict(matrix) for model in self.models]
        return np.mean(answers, axis=0).tolist()


decode = msgspec.json.decode
encode = msgspec.json.encode
