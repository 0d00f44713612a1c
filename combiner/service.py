"""The combiner behind its doors: reads inputs and predictions, publishes scores and health.

The thread that runs here fetches, decodes, joins, decides and encodes; `combiner.outbox`
publishes and commits on another; the cache writes on a third.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import TopicPartition

from cache.protocol import ScoreCache
from combiner.arrivals import Arrivals
from combiner.assembly import block_maker, combiner_of
from combiner.back_pressure import BackPressure
from combiner.core import Combiner
from combiner.escalations import Escalations
from combiner.health_report import HealthReporter
from combiner.identity import Identity
from combiner.memory import LatestScores
from combiner.observing import observe
from combiner.outbox import SMALL_RECORD_BYTES, Outbox
from combiner.outbox_config import outbox_config_of
from combiner.output import Output, Place
from combiner.published import Published
from combiner.refining import knowledge_of
from combiner.rewinding import RewindError, rewind_wait_s
from combiner.shipment import Shipment
from registry.bundle import LoadedBundle
from streams import signals
from streams.columns import Position, columns_of
from streams.errors import BrokerError
from streams.instants import Clock, MonotonicNs, WallMs
from streams.metrics import Metrics
from streams.settings import Settings
from streams.sink import Sink
from streams.source import Source

log = logging.getLogger(__name__)

# One fetch: large enough for a backlog, small enough that the join is back within milliseconds.
_FETCH_RECORDS = 2000
# Decided and shipped together: an outcome takes five times the memory of the event that waits for
# it, so that what piled up leaves in handfuls, and no faster than it is published.
_HANDFUL_EVENTS = 2000
# While a broker takes nothing the loop goes on, so that it notices.
_ROOM_WAIT_S = 0.05
# How long an idle loop sleeps at most: what happens without a record (health, shutdown) is
# never later than this.
_IDLE_WAIT_S = 0.05
# Shorter waits than a millisecond are spinning.
_LEAST_WAIT_S = 0.001
_HEALTH_EVERY_NS = 1_000_000_000
# At-least-once: what a crash may repeat, against a request to the broker each time.
_COMMIT_EVERY_NS = 100_000_000
_DRAIN_S = 5.0
# A producer that is stuck leaves threads behind; so many without an outcome in between, and the
# process starts afresh.
_MOST_STUCK = 5
_SECONDS_PER_NS = 1e-9


class CombinerService:
    """One combiner process.

    Args:
        settings: the configuration.
        bundle: the ensemble that runs.
        slot: a name that stays the same over restarts and that no other combiner has.
        cache: the latest scores.
        metrics: where signals go.
        clock: the time.
        on_turn: called again and again while the loop turns.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: LoadedBundle,
        slot: str,
        cache: ScoreCache,
        metrics: Metrics,
        clock: Clock,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._on_turn = on_turn
        self._bundle = bundle
        self._latest = LatestScores(cache, settings.ensemble.name, settings.cache.ttl_s)
        self._metrics = metrics
        self._clock = clock
        self._identity = Identity(settings.ensemble.name, slot)
        self._ensemble = f"{settings.ensemble.name}@{bundle.version}"
        self._models = [model.name for model in settings.models]
        self._core = self._new_core()
        self._dead_letter_bytes: int | None = None
        self._group_metadata: object = None
        self._has_group = False  # some partitions were assigned, or none
        self._is_away = False  # no broker answers
        self._rewinds = 0  # since something was published
        self._reported_ns = self._committed_ns = clock.monotonic_ns()
        self._source = Source(
            settings.kafka,
            group=self._identity.group,
            instance=self._identity.member,
            pace_ms=settings.combiner.pace_ms,
            topics=[*settings.topics.inputs, settings.topics.predictions],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
            on_away=self._on_away,
            on_missing=lambda topic, n: metrics.counter(signals.MISSING_RECORDS, topic).inc(n),
            on_held_up=self._on_held_up,
        )
        self._health_sink = Sink(settings.kafka)
        self._reporter = HealthReporter(
            self._health_sink, settings.topics.health, slot, metrics, clock
        )
        self._check_topics()
        on = settings.cascade.on
        self._escalations = Escalations(settings, metrics, clock) if on else None
        self._outbox = self._new_outbox()
        predictions, block_of = settings.topics.predictions, block_maker(settings, bundle.manifest)
        published = Published(
            settings,
            self._identity.group,
            block_of,
            metrics.counter(signals.SKIPPED_EVENTS).inc,
        )
        self._arrivals = Arrivals(
            self._core, self._source, predictions, block_of, published, metrics, clock
        )
        self._pressure = BackPressure(
            self._core, self._source, predictions, settings.combiner.max_pending
        )

    # -- construction ------------------------------------------------------------------------

    def _check_topics(self) -> None:
        """Partitions may be added at any time, and then to all topics alike."""
        topics = self._settings.topics
        escalations = [topics.escalations] if self._settings.cascade.on else []
        counts = self._health_sink.require_partitions(
            topics.predictions,
            same=[*topics.inputs, topics.scored, *escalations],
            others=[topics.dead_letters, topics.health, *filter(None, [topics.corrections])],
        )
        for name, count in counts.items():
            self._metrics.gauge(signals.PARTITIONS, name).set(count)

    def _new_core(self) -> Combiner:
        return combiner_of(
            self._settings,
            self._bundle.manifest,
            self._ensemble,
            self._latest.recall,
            self._clock.monotonic_ns(),
            knowledge_of(self._bundle, self._settings),
        )

    def _new_outbox(self) -> Outbox:
        config = outbox_config_of(self._settings, self._ensemble, self._identity)
        outbox = Outbox(config, self._on_published, self._dead_letter_bytes)
        if self._has_group:
            outbox.join()
        return outbox

    # -- the loop ----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned, and some model is not FAILED."""
        return bool(self._core.places) and not self._reporter.deserted

    def run(self, stop: threading.Event) -> None:
        """Combine until `stop` is set.

        Raises:
            BrokerError, FencedError: the process should end and be started again.
        """
        try:
            while not stop.is_set():
                self._on_turn()
                try:
                    self._turn()
                except RewindError as error:
                    self._rewind(error, stop)
        finally:
            self._close()

    def _turn(self) -> None:
        """Fetch, decide, ship."""
        messages = self._source.fetch(_FETCH_RECORDS, self._wait_s())
        if self._is_away:
            self._come_back(heard=bool(messages))
        self._arrivals.take_in(columns_of(messages))
        now_ns = self._clock.monotonic_ns()
        self._let_go(now_ns, self._clock.wall_ms())
        if now_ns - self._committed_ns >= _COMMIT_EVERY_NS:
            self._committed_ns = now_ns
            self._source.commit(self._outbox.acknowledged())
        self._pressure.balance(blocked=self._outbox.is_behind)
        if now_ns - self._reported_ns >= _HEALTH_EVERY_NS:
            self._reported_ns = now_ns
            self._reporter.report(self._core)

    def _let_go(self, now_ns: MonotonicNs, now_ms: WallMs) -> None:
        """Decide and ship what leaves now, a handful at a time."""
        left = _HANDFUL_EVENTS
        while left == _HANDFUL_EVENTS:
            outputs = self._core.advance(now_ns, now_ms, _HANDFUL_EVENTS)
            if self._escalations is not None:
                self._escalations.publish(self._core.escalated)
            if outputs:
                self._outbox.ship(Shipment(outputs, self._positions(), self._group()))
                self._outbox.await_room(_ROOM_WAIT_S)
            else:
                self._outbox.check()
            left = sum(map(len, outputs))

    def _wait_s(self) -> float:
        wake_ns = self._core.next_wake_ns()
        if wake_ns is None:
            return _IDLE_WAIT_S
        until_s = (wake_ns - self._clock.monotonic_ns()) * _SECONDS_PER_NS
        return min(max(until_s, _LEAST_WAIT_S), _IDLE_WAIT_S)

    def _group(self) -> object:
        """The group's metadata, asked for once after each rebalance."""
        if self._group_metadata is None:
            self._group_metadata = self._source.consumer.consumer_group_metadata()
        return self._group_metadata

    def _positions(self) -> dict[Place, Position]:
        predictions = self._settings.topics.predictions
        positions = dict(self._core.input_positions())
        for partition, offset in self._core.prediction_positions().items():
            positions[(predictions, partition)] = Position(offset)
        return positions

    # -- what goes out -----------------------------------------------------------------------

    def _on_published(self, outputs: Sequence[Output], took_s: float) -> None:
        """On the outbox's thread."""
        self._rewinds = 0
        self._metrics.histogram(signals.COMMIT_SECONDS).observe(took_s)
        self._latest.remember(outputs)
        observe(outputs, self._models, self._metrics)

    # -- partitions come and go --------------------------------------------------------------

    def _on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._group_metadata = None
        self._has_group = True
        self._outbox.join()
        self._check_topics()
        places = [(partition.topic, partition.partition) for partition in partitions]
        self._pressure.forget(places)
        for place in places:
            if place[0] != self._settings.topics.predictions:
                self._arrivals.open(place)
        log.info("%s owns %s", self._identity.member, sorted(self._core.places))

    def _on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish and commit what has left; what waits is read again by the next owner."""
        if not self._outbox.drain(_DRAIN_S):
            log.warning("gave partitions back before everything was published")
            self._outbox.abandon()
        try:
            self._source.commit(self._outbox.acknowledged(), asynchronous=False)
        except BrokerError as error:
            log.warning("scores since the last commit will be repeated: %s", error)
        for partition in partitions:
            self._core.close((partition.topic, partition.partition))

    def _on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else may have them: nothing of what was decided here may count."""
        self._outbox.abandon()
        for partition in partitions:
            self._core.close((partition.topic, partition.partition))

    def _on_held_up(self) -> None:
        self._outbox.end_what_hangs()

    def _on_away(self) -> None:
        self._is_away = True

    def _come_back(self, *, heard: bool) -> None:
        """No model is to be blamed for what it missed.

        In transactions nothing could leave either, so what was not committed is read again as
        backlog once a broker is there. Other outcomes would be repeated by that.
        """
        exactly_once = self._settings.combiner.delivery == "exactly_once"
        if exactly_once or heard:
            self._is_away = False
            self._core.judge_anew(self._clock.monotonic_ns())
        if exactly_once:
            raise RewindError("no broker answers")

    def _rewind(self, error: RewindError, stop: threading.Event) -> None:
        """Forget everything since the last commit, and read it again under a new producer."""
        # The old producer must begin no transaction any more, however the one under way ends.
        self._outbox.abandon()
        if self._outbox.is_stuck and self._rewinds >= _MOST_STUCK:
            raise BrokerError(f"{error}, {self._rewinds} times in a row") from error
        self._metrics.counter(signals.REWINDS).inc()
        log.warning("going back to the committed offsets: %s", error)
        if stop.wait(rewind_wait_s(self._rewinds)):
            return  # the next process begins where this would
        self._rewinds += 1
        if error.doubtful:
            self._source.require_place()
        if self._outbox.too_large:
            if self._dead_letter_bytes is not None:
                raise BrokerError(f"{error}; raise max.message.bytes of the topic") from error
            self._dead_letter_bytes = SMALL_RECORD_BYTES
        self._outbox.close(_DRAIN_S)
        # First the new producer: until it is there, the old one's commit may still arrive and
        # move the offsets that reading goes back to.
        self._outbox = self._new_outbox()
        places = self._core.places
        for place in places:
            self._core.close(place)
        self._source.seek_to_committed()
        self._pressure.forget_all()
        self._group_metadata = None
        for place in places:
            self._arrivals.open(place)

    def _close(self) -> None:
        drained = self._outbox.drain(_DRAIN_S)
        if not drained:
            # Giving the partitions back would wait for it as long again.
            self._outbox.abandon()
        self._source.close()
        self._outbox.close(_DRAIN_S if drained else 0.0)
        if self._escalations is not None:
            self._escalations.close()
        self._health_sink.close()
        self._latest.close()
