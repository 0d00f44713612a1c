"""What a selection is: which members count for an event, and how much."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Texts = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of N events beside their features.

    Attributes:
        time_ms: int64[N], milliseconds since 1970, UTC.
        headers: name → text[N], for the headers that a selection asks for; empty where absent.
    """

    time_ms: Ints
    headers: Mapping[str, Texts]

    def take(self, rows: Ints) -> "Context":
        """Some of the events, in the given order."""
        return Context(self.time_ms[rows], {k: texts[rows] for k, texts in self.headers.items()})


class Selection(Protocol):
    """Weighs the members for each event.

    The weights of a row depend on that row alone. They are not negative, zero where the member
    is absent, and add up to 1: whoever is present, at least one of them counts.

    Attributes:
        name: as in the configuration.
        headers: which headers it wants in the context.
    """

    name: str
    headers: tuple[str, ...]

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M] for float64[N, F] features and bool[N, M] with a True in each row."""
        ...


def shares(weights: Floats, present: Bools) -> Floats:
    """float64[N, M]: weights of the present members, each row's sum 1.

    Where all that are present weigh nothing they count alike, for some answer must come.
    """
    kept: Floats = np.where(present, weights, 0.0)
    totals = kept.sum(axis=1, keepdims=True)
    if not totals.all():
        kept = np.where(totals > 0, kept, present.astype(np.float64))
        totals = kept.sum(axis=1, keepdims=True)
    normalised: Floats = kept / totals
    return normalised


def most_competent(competence: Floats, present: Bools) -> Floats:
    """float64[N, M]: those present of the highest competence; who ties counts alike."""
    among = np.where(present, competence, -np.inf)
    return shares((among == among.max(axis=1, keepdims=True)).astype(np.float64), present)
