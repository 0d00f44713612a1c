"""The thread that reads: fetch, decode, hand over, and commit what all models have answered.

Everything that concerns the consumer happens here, so that positions need no lock. The models'
threads only leave notes of what the broker acknowledged.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from itertools import chain

from confluent_kafka import Message, TopicPartition

from streams import signals
from streams.columns import Columns, Place, columns_of
from streams.errors import BrokerError, FencedError
from streams.escalations import Origins
from streams.events import EventDecoder
from streams.instants import NS_PER_MS, Clock
from streams.metrics import Metrics
from streams.settings import Settings
from streams.sink import Sink
from streams.source import Source
from workers.batching import RecordBatch
from workers.lane import Lane
from workers.pressure import Load, Pressure
from workers.rounds import Rounds
from workers.tracking import CommitTracker

log = logging.getLogger(__name__)

COMMIT_INTERVAL_MS = 200
# How long an idle turn lasts at most: acknowledgements, commits and shutdown are never later.
_IDLE_WAIT_S = 0.05
_BLOCKED_WAIT_S = 0.005
# While models share a thread: how soon somebody sees that one of them holds up the others.
_ROUND_WAIT_S = 0.01
# While models catch up, records wait in the client: pausing would throw them away and fetch them
# again. Longer than this, and the consumer must be served or a rebalance waits for us.
_PAUSE_AFTER_MS = 1000
# A call that lasts so long is no busy model any more.
STUCK_MS = 1000
# What the group waits for when a partition moves.
_REVOKE_DRAIN_MS = 2000
_STOP_DRAIN_MS = 5000
_FLUSH_TIMEOUT_S = 2.0
# Tickets of single events while no model answers: minutes at hundreds of events per second.
_MAX_TICKETS = 100_000


class Feed:
    """Reads the inputs for all lanes of a process, or for heavy models what is escalated.

    Args:
        settings: the configuration.
        worker: its name there, which with the ensemble's names the consumer group.
        slot: a name that stays the same over restarts and that no other process of this worker
            has; empty for a member that the group forgets.
        decoder: from records to rows.
        lanes: one for each model.
        rounds: the thread that quick models share.
        acknowledged: where (ticket, rows) that the broker has are noted, by any thread.
        sink: polled here, for these notes.
        metrics: where signals go.
        clock: the time.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        slot: str,
        decoder: EventDecoder,
        lanes: Sequence[Lane],
        rounds: Rounds,
        acknowledged: deque[list[tuple[int, int]]],
        sink: Sink,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.ready = False
        self._worker = worker
        self._topics = settings.topics
        self._reads = settings.cascade.read_by(
            [lane.name for lane in lanes], settings.topics.inputs, settings.topics.escalations
        )
        self._escalated = self._reads != settings.topics.inputs
        self._tuning = settings.worker
        self._decoder = decoder
        self._lanes = lanes
        self._rounds = rounds
        self._acknowledged = acknowledged
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._tracker = CommitTracker()
        self._pressure = Pressure(self._tuning.max_backlog)
        self._places: set[Place] = set()
        self._positions: dict[Place, int] = {}
        self._committed_ns = 0
        self._stuck_ns = min(STUCK_MS, self._tuning.hang_ms // 2) * NS_PER_MS
        self._blocked_since_ns: int | None = None
        self._paused = False
        group = f"{settings.ensemble.name}.worker.{worker}"
        self._source = Source(
            settings.kafka,
            group=group,
            instance=f"{group}.{slot}" if slot else "",
            pace_ms=self._tuning.pace_ms,
            topics=self._reads,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
            on_missing=lambda topic, n: metrics.counter(signals.MISSING_RECORDS, topic).inc(n),
        )

    # -- the loop ----------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set; then let the models finish, commit and leave the group.

        Raises:
            BrokerError, FencedError: the process should end and be started again.
        """
        try:
            while not stop.is_set():
                self._turn()
            self.ready = False
            if not self._settle(_STOP_DRAIN_MS):
                log.warning("leaving with events unanswered; they will be read again")
            self._sink.flush(_FLUSH_TIMEOUT_S)
        finally:
            self.ready = False
            self._source.close()

    def _turn(self) -> None:
        """Fetch and hand over."""
        self._commit_if_due()
        if self._is_blocked():
            return
        wait_s = _ROUND_WAIT_S if self._rounds.busy else _IDLE_WAIT_S
        messages = self._source.fetch(self._tuning.fetch_records, wait_s)
        if messages:
            self._hand_over(self._batches(messages))

    def _is_blocked(self) -> bool:
        """Whether models that make progress have enough to do; waits a little if so."""
        loads = [self._load(lane) for lane in self._lanes]
        now_ns = self._clock.monotonic_ns()
        if self._pressure.is_due(loads, now_ns):
            for model in self._pressure.judge(loads, self._lag_records(), now_ns):
                log.warning("%s is too slow; what it cannot do is refused", self._lanes[model].name)
        if len(self._tracker) < _MAX_TICKETS and not self._pressure.blocks(loads):
            self._blocked_since_ns = None
            self._pause(paused=False)
            return False
        self._blocked_since_ns = self._blocked_since_ns or now_ns
        if now_ns - self._blocked_since_ns > _PAUSE_AFTER_MS * NS_PER_MS:
            self._pause(paused=True)
            return False
        self._sink.poll(_BLOCKED_WAIT_S)
        return True

    def _load(self, lane: Lane) -> Load:
        return Load(lane.backlog_rows, self._is_stuck(lane))

    def _lag_records(self) -> int:
        """What is still to be read of the partitions that were read, as the client knows it."""
        ends = {place: self._source.known_end(place) for place in self._positions}
        return sum(max(0, ends[place] - next_) for place, next_ in self._positions.items())

    def _is_stuck(self, lane: Lane) -> bool:
        return lane.busy_ns() > self._stuck_ns

    def _pause(self, *, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            (self._source.pause if paused else self._source.resume)(self._places)

    # -- events ------------------------------------------------------------------------------

    def _batches(self, messages: list[Message]) -> list[RecordBatch]:
        """One record batch for each partition of a fetch; of escalated events for each topic."""
        received_ns = self._clock.monotonic_ns()
        self._metrics.counter(signals.EVENTS_FETCHED, self._worker).inc(len(messages))
        found = (self._of_partition(columns, received_ns) for columns in columns_of(messages))
        return list(chain.from_iterable(found))

    def _of_partition(self, columns: Columns, received_ns: int) -> list[RecordBatch]:
        topic, partition = columns.place
        origins = Origins(columns) if self._escalated else None
        times_ms = columns.timestamps_ms if origins is None else origins.timestamps_ms
        # What an event is called is the combiner's business; only whether it is bad matters here.
        decoded = self._decoder.decode(columns.values, columns.keys, times_ms, lambda _row: "-")
        if skipped := len(decoded.bad) + (0 if origins is None else origins.strange):
            self._metrics.counter(signals.BAD_SKIPPED, self._worker).inc(skipped)
        if origins is None:
            groups = [(topic, columns.offsets[decoded.positions], decoded.matrix)]
        else:
            groups = [
                (topic, offsets, decoded.matrix[rows])
                for topic, offsets, rows in origins.groups(decoded.positions)
            ]
        answers = sum(len(offsets) for _, offsets, _ in groups) * len(self._lanes)
        next_offset = int(columns.offsets[-1]) + 1
        self._positions[columns.place] = next_offset
        ticket = self._tracker.open(columns.place, next_offset, answers)
        return [
            RecordBatch(topic, partition, offsets, matrix, received_ns, ticket)
            for topic, offsets, matrix in groups
        ]

    def _hand_over(self, batches: list[RecordBatch]) -> None:
        batches = list(filter(len, batches))
        if not batches:
            return
        together = self._rounds.take(batches, self._lanes)
        for model, lane in enumerate(self._lanes):
            if lane in together:
                continue
            taken = []
            for batch in batches:
                if self._pressure.sheds(model, self._load(lane)):
                    lane.shed(batch)
                else:
                    lane.enter(len(batch))
                    taken.append(batch)
            if taken:
                lane.put(taken)

    # -- positions ---------------------------------------------------------------------------

    def _take_acknowledgements(self, timeout_s: float = 0.0) -> None:
        self._rounds.watch()
        self._sink.poll(timeout_s)
        while self._acknowledged:
            for ticket, rows in self._acknowledged.popleft():
                self._tracker.acknowledge(ticket, rows)

    def _commit_if_due(self) -> None:
        self._take_acknowledgements()
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._committed_ns >= COMMIT_INTERVAL_MS * NS_PER_MS:
            self._committed_ns = now_ns
            self._source.commit(self._tracker.take_positions())

    def _settle(self, timeout_ms: int) -> bool:
        """Wait for the models that make progress, and commit; whether all is answered."""
        give_up_ns = self._clock.monotonic_ns() + timeout_ms * NS_PER_MS
        while len(self._tracker) and self._clock.monotonic_ns() < give_up_ns:
            waited_for = [lane for lane in self._lanes if lane.backlog_rows]
            if waited_for and all(self._is_stuck(lane) for lane in waited_for):
                break
            self._take_acknowledgements(_BLOCKED_WAIT_S)
        self._take_acknowledgements()
        try:
            self._source.commit(self._tracker.take_positions(), asynchronous=False)
        except FencedError:
            raise
        except BrokerError as error:
            # Partitions that were lost rather than given back are somebody else's already.
            log.warning("some events will be read again: %s", error)
        return not len(self._tracker)

    # -- partitions come and go --------------------------------------------------------------

    def _check_topics(self) -> None:
        """Partitions may be added at any time, and then to all topics alike."""
        counts = self._sink.require_partitions(self._topics.predictions, same=self._reads)
        for name, count in counts.items():
            self._metrics.gauge(signals.PARTITIONS, name).set(count)

    def _on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._check_topics()
        self._places |= {(partition.topic, partition.partition) for partition in partitions}
        self._paused = False
        self.ready = True
        log.info("%s reads %s", self._worker, sorted(self._places))

    def _on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        self._settle(_REVOKE_DRAIN_MS)
        self._on_lost(partitions)

    def _on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            place = (partition.topic, partition.partition)
            self._places.discard(place)
            self._positions.pop(place, None)
            self._tracker.forget(place)
