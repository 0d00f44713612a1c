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
    headers = {name: np.array(columns.header_texts(name), np.str_) for name in wanted.headers}
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


class FactsRing:
    """Facts in numbered slots; what is put into a slot replaces what was there.

    Args:
        slots: how many.
        like: facts of some events, for the number of features and the names of headers.
    """

    def __init__(self, slots: int, like: Facts) -> None:
        self._features: Floats = np.full((slots, like.features.shape[1]), np.nan)
        self._time_ms: Ints = np.zeros(slots, dtype=np.int64)
        self._chance: Floats = np.zeros(slots)
        # Texts of any length, which an array of texts does not take.
        self._headers = {name: np.full(slots, "", dtype=object) for name in like.context.headers}

    def put(self, slots: Ints, facts: Facts) -> None:
        """The facts of N events, each into its slot; of several for one slot the last stays."""
        self._features[slots] = facts.features
        self._time_ms[slots] = facts.context.time_ms
        self._chance[slots] = facts.chance
        for name, texts in facts.context.headers.items():
            self._headers[name][slots] = texts

    def take(self, slots: Ints) -> Facts:
        """The facts in some slots."""
        headers = {name: texts[slots].astype(np.str_) for name, texts in self._headers.items()}
        return Facts(
            self._features[slots], Context(self._time_ms[slots], headers), self._chance[slots]
        )
