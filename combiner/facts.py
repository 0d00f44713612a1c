"""What is known of events beside the models' answers, where somebody wants to know it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from combiner.conformal import chances
from combiner.selection.protocol import Context
from streams.columns import Columns
from streams.events import DecodedEvents

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FactsWanted:
    """Which facts: the chance and the time always, features and some headers if asked for."""

    features: bool = False
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of N events; those of bad events are empty.

    Attributes:
        features: float64[N, F]; F is 0 where nobody wants them.
        context: times and headers.
        chance: float64[N] in [0, 1), of the event's identity (`combiner.conformal.chances`).
    """

    features: Floats
    context: Context
    chance: Floats

    def take(self, rows: Ints) -> "Facts":
        """Some of the events."""
        return Facts(self.features[rows], self.context.take(rows), self.chance[rows])


def facts_of(wanted: FactsWanted, decoded: DecodedEvents, columns: Columns, time_ms: Ints) -> Facts:
    """The facts of consecutive records of one partition."""
    count = len(columns.offsets)
    features = decoded.matrix
    if len(features) < count:
        features = np.full((count, decoded.matrix.shape[1]), np.nan)
        features[decoded.positions] = decoded.matrix
    headers: dict[str, NDArray[np.str_]] = {}
    if wanted.headers:
        found = [dict(columns.headers(row) or ()) for row in range(count)]
        for name in wanted.headers:
            texts = [(each.get(name) or b"").decode("utf-8", "replace") for each in found]
            headers[name] = np.array(texts, dtype=np.str_)
    _, partition = columns.place
    return Facts(features, Context(time_ms, headers), chances(partition, columns.offsets))


def joined_facts(parts: Sequence[Facts | None]) -> Facts | None:
    """The facts of several blocks, one behind the other; all have them, or none has."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    assert len(known) == len(parts)
    names = known[0].context.headers
    return Facts(
        np.concatenate([part.features for part in known]),
        Context(
            np.concatenate([part.context.time_ms for part in known]),
            {n: np.concatenate([part.context.headers[n] for part in known]) for n in names},
        ),
        np.concatenate([part.chance for part in known]),
    )
