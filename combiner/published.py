"""What the published outcomes themselves say about which events have theirs.

A position that a group committed may be older than what was published with it: the group was
deleted or has expired, its offsets were copied to another cluster, or a broker that had crashed
handed them out before it had read them all. Outcomes and positions leave in one transaction, so
the newest outcomes of a partition tell.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Message

from combiner.ahead import Runs, run_of
from combiner.window import EventBlock
from streams.columns import Columns, Place, columns_of
from streams.errors import BrokerError
from streams.records import Header, Headers
from streams.settings import Settings
from streams.stretches import Stretch, StretchReader

log = logging.getLogger(__name__)

# Markers of transactions take offsets as well: enough for some records to be among them.
_NEWEST = 500


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


class Published:
    """Looks at the newest outcomes.

    Args:
        settings: the configuration.
        group: a consumer group that this process may use; nothing is committed.
        block_of: decodes events.
    """

    def __init__(
        self, settings: Settings, group: str, block_of: Callable[[Columns], EventBlock]
    ) -> None:
        self._settings = settings
        self._group = group
        self._block_of = block_of

    def beyond(self, positions: Mapping[Place, tuple[int, Runs]]) -> dict[Place, Runs]:
        """Offsets that have their outcomes although the committed positions say otherwise.

        Args:
            positions: input partition → the first offset that is to be decided, and those above
                it that have left.

        Raises:
            BrokerError: the broker does not answer; or positions are wrong, and it does not follow
                from the newest outcomes which events have theirs.
        """
        found: dict[Place, Runs] = {}
        with StretchReader(self._settings.kafka, self._group) as reader:
            traces = self._traces(reader, {partition for _, partition in positions})
            for place, (start, known) in positions.items():
                of_place = [trace for trace in traces if trace.place == place]
                newest = newest_beyond(start, known, of_place)
                if newest is None:
                    continue
                if self._is_of(reader, newest):
                    found[place] = self._range_to(newest, start, known)
                else:
                    log.warning(
                        "%s/%d: there is an outcome of event %d, which is another event; its "
                        "topic is not the one that it was",
                        *(*place, newest.offset),
                    )
        return found

    def _range_to(self, newest: Trace, start: int, known: Runs) -> Runs:
        """In the order of the partition everything up to an outcome has its own."""
        where = f"{newest.place[0]}/{newest.place[1]}"
        if len(known) or self._settings.combiner.order != "partition":
            raise BrokerError(
                f"the committed offset of {where} is {start}, and event {newest.offset} has its "
                'outcome; in the order "ready" nobody can tell which others have'
            )
        count = newest.offset + 1 - start
        log.warning(
            "%s: the committed offset %d is older than what is published; %d offsets are skipped, "
            "up to the outcome of event %d",
            *(where, start, count, newest.offset),
        )
        return run_of(start, newest.offset + 1)

    def _traces(self, reader: StretchReader, partitions: set[int]) -> list[Trace]:
        topics, name = self._settings.topics, self._settings.ensemble.name
        places = [(topics.scored, partition) for partition in sorted(partitions)]
        places += reader.places([topics.dead_letters])
        found = (trace_of(message, name) for message in _newest(reader, places))
        return [trace for trace in found if trace is not None]

    def _is_of(self, reader: StretchReader, trace: Trace) -> bool:
        """Whether the event is the one that the outcome is of, and not one of a new topic."""
        stretch = {trace.place: (trace.offset, trace.offset + 1)}
        if trace.offset < reader.held(trace.place)[1]:
            for messages in reader.read(stretch):
                [event] = columns_of(messages)
                if isinstance(trace.shows, str):
                    return self._block_of(event).ids == [trace.shows]
                value = event.values[0] or b""
                return value == trace.shows or (trace.cut and value.startswith(trace.shows))
        return False


def _newest(reader: StretchReader, places: Sequence[Place]) -> Iterator[Message]:
    """The newest records of partitions; goes further back where it meets only markers."""
    held = {place: reader.held(place) for place in places}
    count = _NEWEST
    while held:
        stretches: dict[Place, Stretch] = {
            place: (max(low, high - count), high) for place, (low, high) in held.items()
        }
        for messages in reader.read(stretches):
            for message in messages:
                held.pop((str(message.topic()), int(message.partition() or 0)), None)
                yield message
        held = {place: ends for place, ends in held.items() if stretches[place][0] > ends[0]}
        count *= 8
