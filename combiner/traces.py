"""What a published outcome shows of its event, as a witness against a committed position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from combiner.ahead import Runs
from streams.columns import Place
from streams.records import Header, Headers


@dataclass(frozen=True, slots=True)
class Trace:
    """An outcome of an event.

    Attributes:
        place: the event's topic and partition.
        offset: the event's.
        shows: what it shows of the event: the id of a scored one, the value of a dead one.
        cut: whether that is only the beginning of the value.
    """

    place: Place
    offset: int
    shows: str | bytes
    cut: bool = False


class _Source(msgspec.Struct):
    """What is wanted of a scored record."""

    id: str
    source: str
    ensemble: str


_decode = msgspec.json.Decoder(_Source).decode


def trace_of(message: Any, ensemble: str) -> Trace | None:
    """The trace of a scored record or a dead letter; None if it is not of this ensemble.

    Args:
        message: anything with the methods of a `confluent_kafka.Message`.
        ensemble: a name without a version.
    """
    headers: Sequence[Header] = message.headers() or ()
    said = {name: value or b"" for name, value in headers if name.startswith(Headers.PREFIX)}
    if Headers.OFFSET in said:
        by, topic, partition, offset = (
            said.get(name, b"").decode("utf-8", "replace")
            for name in (Headers.ENSEMBLE, Headers.TOPIC, Headers.PARTITION, Headers.OFFSET)
        )
        shows: str | bytes = message.value() or b""
    else:
        try:
            record = _decode(message.value() or b"")
        except msgspec.DecodeError:
            return None
        by, shows = record.ensemble, record.id
        topic, partition, offset = [*record.source.split("/"), "", ""][:3]
    if by.partition("@")[0] != ensemble or not (partition.isdecimal() and offset.isdecimal()):
        return None
    return Trace((topic, int(partition)), int(offset), shows, Headers.ORIGINAL_BYTES in said)


def newest_beyond(start: int, known: Runs, traces: Sequence[Trace]) -> Trace | None:
    """The newest event whose outcome contradicts a committed position; None if none does.

    Args:
        start: the position.
        known: outcomes that the position names as published ahead of it.
        traces: the newest ones of a partition, in any order.
    """
    offsets = np.array([trace.offset for trace in traces], dtype=np.int64)
    beyond = (offsets >= start) & ~known.contain(offsets)
    if not beyond.any():
        return None
    return traces[int(np.argmax(np.where(beyond, offsets, -1)))]
