"""Which offsets of a partition lie between two bounds."""

from replay.bounds import Bound
from streams.stretches import Place, Stretch, StretchReader


def stretch_between(
    reader: StretchReader, place: Place, start: Bound, stop: Bound
) -> Stretch | None:
    """The offsets between two bounds, of those that are there now; None where that is nothing.

    A bound of offsets leaves out the partitions that it does not name.

    Raises:
        BrokerError: the broker does not answer.
    """
    low, high = reader.held(place)
    ends = [_offset(reader, place, bound, low, high) for bound in (start, stop)]
    if ends[0] is None or ends[1] is None:
        return None
    first, last = max(low, ends[0]), min(high, ends[1])
    return (first, last) if first < last else None


def _offset(reader: StretchReader, place: Place, bound: Bound, low: int, high: int) -> int | None:
    if bound.offsets:
        return bound.offset_of(*place)
    if bound.time_ms is not None:
        return reader.at_time(place, bound.time_ms)
    return high if bound.at_end else low
