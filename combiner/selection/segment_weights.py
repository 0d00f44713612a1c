"""Weights by the segment that an event belongs to: a device, a country, an hour, a range."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from combiner.selection.protocol import Bools, Context, Floats, Ints, shares

MS_PER_HOUR = 3_600_000
HOURS_PER_DAY = 24


class Segments(Protocol):
    """Numbers the segments from 0 on; an event of none of them has the number `count`."""

    count: int
    headers: tuple[str, ...]

    def of(self, features: Floats, context: Context) -> Ints:
        """int64[N]."""
        ...


class FeatureRanges:
    """Ranges of a feature: below the first edge, from each edge to the next, from the last on.

    Args:
        column: of the feature.
        edges: ascending.
    """

    headers: tuple[str, ...] = ()

    def __init__(self, column: int, edges: Sequence[float]) -> None:
        self.count = len(edges) + 1
        self._column = column
        self._edges = np.array(edges, dtype=np.float64)

    def of(self, features: Floats, context: Context) -> Ints:
        """int64[N]; a missing feature is in no segment."""
        del context
        values = features[:, self._column]
        places = np.searchsorted(self._edges, values, side="right")
        return np.where(np.isnan(values), self.count, places)


class FeatureValues:
    """Some values of a feature; of a category, their places in the vocabulary.

    Args:
        column: of the feature.
        values: one segment each.
    """

    headers: tuple[str, ...] = ()

    def __init__(self, column: int, values: Sequence[float]) -> None:
        self.count = len(values)
        self._column = column
        self._values = np.array(values, dtype=np.float64)

    def of(self, features: Floats, context: Context) -> Ints:
        """int64[N]."""
        del context
        equal = features[:, self._column, None] == self._values
        return np.where(equal.any(axis=1), equal.argmax(axis=1), self.count)


class HeaderValues:
    """Some values of a header, one segment each."""

    def __init__(self, header: str, values: Sequence[str]) -> None:
        self.count = len(values)
        self.headers: tuple[str, ...] = (header,)
        self._values = np.array(values)

    def of(self, features: Floats, context: Context) -> Ints:
        """int64[N]."""
        del features
        equal = context.headers[self.headers[0]][:, None] == self._values
        return np.where(equal.any(axis=1), equal.argmax(axis=1), self.count)


class Hours:
    """Parts of the day by the event's own time, in UTC: from each hour to the next of the list.

    Args:
        starts: hours from 0 to 23, ascending; before the first one the last part goes on.
    """

    headers: tuple[str, ...] = ()

    def __init__(self, starts: Sequence[int]) -> None:
        assert starts
        assert set(starts) <= set(range(HOURS_PER_DAY))
        self.count = len(starts)
        self._starts = np.array(starts)

    def of(self, features: Floats, context: Context) -> Ints:
        """int64[N]."""
        del features
        hours = context.time_ms // MS_PER_HOUR % HOURS_PER_DAY
        places: Ints = (np.searchsorted(self._starts, hours, side="right") - 1) % self.count
        return places


class SegmentWeights:
    """Each segment has weights of its own.

    Args:
        segments: how events are told apart.
        weights: float64[S + 1, M], not negative; the last row is for events of no segment.
    """

    name = "segment_weights"

    def __init__(self, segments: Segments, weights: Floats) -> None:
        assert len(weights) == segments.count + 1
        assert (weights >= 0).all()
        self.headers = segments.headers
        self._segments = segments
        self._weights = weights

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M]."""
        return shares(self._weights[self._segments.of(features, context)], present)
