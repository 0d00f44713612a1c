"""From fetched records to the core: events and frames, each partition from its first record on."""

import logging
from collections.abc import Callable, Sequence

from combiner.core import Combiner
from combiner.intake import frames_of
from combiner.output import Place
from combiner.published import Published
from combiner.window import EventBlock
from streams import signals
from streams.columns import Columns
from streams.instants import Clock, MonotonicNs
from streams.metrics import Metrics
from streams.source import Source

log = logging.getLogger(__name__)


class Arrivals:
    """Hands what a source brought to a core.

    Args:
        core: whom to give it to.
        source: where it came from.
        predictions: the topic of answers; all others are inputs.
        block_of: decodes events.
        published: knows which events have their outcome already.
        metrics: where signals go.
        clock: the time.
    """

    def __init__(
        self,
        core: Combiner,
        source: Source,
        predictions: str,
        block_of: Callable[[Columns], EventBlock],
        published: Published,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._core = core
        self._source = source
        self._predictions = predictions
        self._block_of = block_of
        self._published = published
        self._metrics = metrics
        self._clock = clock
        self._new: set[Place] = set()  # inputs of which no record has come

    def open(self, place: Place) -> None:
        """Own an input partition; what lies in it by now is backlog."""
        self._core.open(place, self._source.high_watermark(place))
        self._new.add(place)

    def take_in(self, fetched: Sequence[Columns]) -> None:
        """Events first: an answer whose event is in the same fetch need not be held."""
        self._begin([columns for columns in fetched if columns.place in self._new])
        now_ns = self._clock.monotonic_ns()
        for columns in fetched:
            if columns.place[0] != self._predictions and (columns := self._unread(columns)):
                piled_up = self._source.piled_up(columns.place, int(columns.offsets[-1]))
                self._core.set_backlog(columns.place, piled_up)
                self._core.add_events(columns.place, self._block_of(columns), now_ns)
                self._metrics.counter(signals.EVENTS_SEEN).inc(len(columns))
        for columns in fetched:
            if columns.place[0] == self._predictions:
                self._add_frames(columns, now_ns)

    def _begin(self, fetched: Sequence[Columns]) -> None:
        """Learn what has its outcome already, with the first records of some partitions.

        Not before: until then the position may still be inside another process's transaction,
        and asking would wait for its end.
        """
        if not fetched:
            return
        first = {columns.place: int(columns.offsets[0]) for columns in fetched}
        committed = self._source.committed(sorted(first))
        for place, gone in self._published.gone(committed, first).items():
            self._core.skip(place, gone)
        self._new -= first.keys()

    def _unread(self, columns: Columns) -> Columns:
        """Without what was read before.

        A client that was placed several times in a row has been seen to go back to the first
        place once it was paused and resumed.
        """
        new = columns.beyond(self._core.read(columns.place))
        if len(new) < len(columns):
            log.warning("%s/%d: %d events came again", *columns.place, len(columns) - len(new))
        return new

    def _add_frames(self, columns: Columns, now_ns: MonotonicNs) -> None:
        partition = columns.place[1]
        frames, problems = frames_of(columns)
        if problems:
            log.debug("predictions/%d: %s", partition, problems)
            self._core.bad_frames["no frame"] += len(problems)
        self._core.add_frames(partition, frames, now_ns, columns.times_by_offset)
        self._core.skip_frames(partition, int(columns.offsets[-1]) + 1)
