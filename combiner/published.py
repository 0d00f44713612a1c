"""What the published outcomes themselves say about which events have theirs.

A position that a group committed may be older than what was published with it: the group was
deleted or has expired, its offsets were copied to another cluster, or a broker that had crashed
handed them out before it had read them all. Outcomes and positions leave in one transaction, so
the newest outcomes of a partition tell.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from confluent_kafka import Message

from combiner.ahead import Runs, UnreadableError, decode, run_of
from combiner.traces import Trace, newest_beyond, trace_of
from combiner.window import EventBlock
from streams.columns import Columns, Place, Position, columns_of
from streams.errors import BrokerError, ConfigurationError
from streams.settings import Settings
from streams.stretches import Stretch, StretchReader

log = logging.getLogger(__name__)

# Markers of transactions take offsets as well: enough for some records to be among them.
_NEWEST = 500


class Published:
    """Knows which events above a committed position have their outcomes.

    Args:
        settings: the configuration.
        group: the combiners' consumer group; nothing is committed here.
        block_of: decodes events.
        on_skipped: called with the number of offsets that a position did not know of.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        block_of: Callable[[Columns], EventBlock],
        on_skipped: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._group = group
        self._block_of = block_of
        self._on_skipped = on_skipped
        # Without transactions outcomes are always ahead of the positions, and come again.
        combiner = settings.combiner
        self._looks = combiner.skip_published and combiner.delivery == "exactly_once"

    def gone(
        self, committed: Mapping[Place, Position], first: Mapping[Place, int]
    ) -> dict[Place, Runs]:
        """Offsets that left in an earlier life, of some input partitions.

        Args:
            committed: what the group says.
            first: the first offsets that came; reading may have begun with an older answer.

        Raises:
            ConfigurationError: beside an offset stands what no combiner wrote.
            BrokerError: the broker does not answer; or positions are wrong, and it does not follow
                from the newest outcomes which events have theirs.
        """
        found: dict[Place, Runs] = {}
        for place, position in committed.items():
            found[place] = self._named(place, position)
            if len(found[place]):
                log.info("%s/%d: outcomes are there for %d ranges ahead", *place, len(found[place]))
        if not self._looks:
            return found
        with StretchReader(self._settings.kafka, self._group) as reader:
            traces = self._traces(reader, {partition for _, partition in committed})
            for place, position in committed.items():
                start = min(position.offset, first[place])
                of_place = [trace for trace in traces if trace.place == place]
                newest = newest_beyond(start, found[place], of_place)
                if newest is None:
                    continue
                if self._is_of(reader, newest):
                    found[place] = self._range_to(newest, start, found[place])
                    self._on_skipped(found[place].total)
                else:
                    log.warning(
                        "%s/%d: there is an outcome of event %d, which is another event; its "
                        "topic is not the one that it was",
                        *(*place, newest.offset),
                    )
        return found

    def _named(self, place: Place, position: Position) -> Runs:
        """What stands beside a committed offset."""
        try:
            return decode(*position)
        except UnreadableError as error:
            raise ConfigurationError(
                f"consumer group {self._group}",
                f"beside the committed offset of {place[0]}/{place[1]} stands "
                f"{position.metadata[:80]!r}, and {error}; expected what a combiner wrote: "
                "set the group's offset anew; what has its outcome is skipped all the same",
            ) from error

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
