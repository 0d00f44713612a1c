"""The way out: scores, dead letters and input offsets, in one transaction or in that order.

Runs on a thread of its own, because a commit takes milliseconds and the join has none to give.
What the join ships while a commit is under way leaves with the next one, so the commits grow
with the load and there is no interval to tune for throughput.

`exactly_once`: records and offsets become visible together or not at all. After any error that
is not fatal the producer is thrown away: its successor has the same transactional id and a higher
epoch, which fences whatever request may still be on its way, and everything since the last commit
is read and decided again. Before anything else a producer gives up whatever of its predecessors
may hang in the topics: its commit would count for that, too. And one that waited long for the end
of a commit begins no other one: that transaction may be what hangs.

`at_least_once`: records become visible at once; their positions are handed back for committing
(`acknowledged`) after the broker has everything before them. A crash in between repeats records.

Nothing here touches the consumer: its calls wait for each other, and one that came from this
thread would wait behind an endless row of fetches.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException

from combiner.delivery import Delivery
from combiner.hanging import give_up_what_hangs
from combiner.outbox_config import OutboxConfig
from combiner.output import Output, Place
from combiner.rewinding import RewindError
from combiner.shipment import Load, Shipment
from streams.client import plain_errors, translated
from streams.columns import Position
from streams.errors import BrokerError, EnsembleError, FencedError
from streams.lifeline import Lifeline
from streams.sink import producer_config
from streams.source import committable

log = logging.getLogger(__name__)

# Longer than a broker's restart; beyond it the process starts afresh, with a new connection.
_COMMIT_TIMEOUT_S = 10.0
_INIT_TIMEOUT_S = 30.0
# After this a transaction is given up, and its producer with it: below the time that the broker
# gives it, and whatever the client says. When the broker that keeps the group's offsets dies,
# librdkafka (2.16) may ask too early who keeps them now, then waits for some broker to come or go
# before it asks again, and heeds no time limit.
_STUCK_S = 6.0
# Less than a broker's restart. A lone one that was killed may say that a transaction is committed
# which hangs in some of its partitions (see `combiner.hanging`). The next one of the same producer
# would end it there, and in no other partition; a new producer gives it up as a whole.
_BELIEVED_S = 3.0
# Outcomes of one transaction, as far as they are shipped in parts. Of each there are a copy in the
# client and one here until the broker has it; with more of them commits cost hardly less.
_LOAD_EVENTS = 4000

_TRANSACTIONAL: Mapping[str, object] = {
    # What a process that was killed had begun holds up its partitions' readers, and whoever has
    # its partitions next, until this has passed; the default is a minute.
    "transaction.timeout.ms": 10_000,
}

SMALL_RECORD_BYTES = 900_000  # the stock limit is 1 MiB for a record with its key and headers


class Outbox:
    """Publishes shipments in order, and commits.

    Args:
        config: see there.
        on_published: called on the outbox's thread with the outputs that are safe, and with the
            seconds that it took.
        dead_letter_bytes: cut dead letters to this size; None keeps them whole.
    """

    def __init__(
        self,
        config: OutboxConfig,
        on_published: Callable[[Sequence[Output], float], None],
        dead_letter_bytes: int | None = None,
    ) -> None:
        self._config = config
        self._on_published = on_published
        self._changed = threading.Condition()
        self._waiting: deque[Shipment] = deque()
        self._events = 0  # outcomes shipped but not published
        self._acknowledged: dict[Place, Position] = {}
        self._stopping = False
        self._failure: EnsembleError | None = None
        self._began_s: float | None = None  # of the transaction under way
        self._has_group = False
        self._nothing_hangs = False
        self._transaction_timeout_s = 0.0
        self._delivery = self._new_delivery(dead_letter_bytes)
        self._producer = producer = self._delivery.producer
        self._lifeline = Lifeline(
            config.kafka,
            producer,
            lambda wait_s: producer.list_topics(config.scored, wait_s),
            self._fail,
        )
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def _new_delivery(self, dead_letter_bytes: int | None) -> Delivery:
        properties = producer_config(self._config.kafka)
        if not self._config.transactional_id:
            return Delivery(self._config, properties, dead_letter_bytes)
        properties = {**_TRANSACTIONAL, **properties}
        self._transaction_timeout_s = int(str(properties["transaction.timeout.ms"])) / 1000
        properties["transactional.id"] = self._config.transactional_id
        try:
            delivery = Delivery(self._config, properties, dead_letter_bytes)
            # A client without a connection looks for its coordinator half a second later.
            delivery.producer.list_topics(self._config.scored, _INIT_TIMEOUT_S)
            delivery.producer.init_transactions(_INIT_TIMEOUT_S)
        except KafkaException as error:
            raise translated(error, "cannot begin transactions") from error
        return delivery

    @property
    def too_large(self) -> bool:
        """Whether a record was refused for its size."""
        return self._delivery.too_large

    # -- the join's side ---------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether much more is shipped than `await_room` lets come: the broker takes nothing."""
        return self._events > 4 * _LOAD_EVENTS

    def acknowledged(self) -> dict[Place, Position]:
        """At-least-once: positions to commit that became safe since the last call."""
        with self._changed:
            positions, self._acknowledged = self._acknowledged, {}
        return positions

    def join(self) -> None:
        """The group is there: give up, on the thread, what may hang from before."""
        with self._changed:
            self._has_group = True
            self._changed.notify()

    def ship(self, shipment: Shipment) -> None:
        """Hand over; never waits. Raises what went wrong before."""
        self.check()
        with self._changed:
            self._waiting.append(shipment)
            self._events += shipment.events
            self._changed.notify()

    def await_room(self, timeout_s: float) -> bool:
        """Wait while one load is on its way and the next one complete; whether that is over."""
        with self._changed:
            enough = 2 * _LOAD_EVENTS
            self._changed.wait_for(lambda: self._events < enough or self._failure, timeout_s)
            return self._events < enough

    def check(self) -> None:
        """Raise what went wrong: RewindError, FencedError or BrokerError."""
        if self._failure is not None:
            raise self._failure
        if self.is_stuck:
            # It may be this process that stood still, and another one has its place by now.
            problem = f"a transaction did not end within {_STUCK_S:g} s"
            raise RewindError(problem, doubtful=True)

    @property
    def is_stuck(self) -> bool:
        """Whether the transaction under way will never end, as far as anybody can tell."""
        return self._took_s() > _STUCK_S

    def _took_s(self) -> float:
        """How long the transaction under way has lasted; 0 if there is none."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def abandon(self) -> None:
        """Take back what has not left: it would count under a group, or a producer, of the past."""
        with self._changed:
            self._waiting.clear()
            self._failure = self._failure or RewindError("partitions left before their outcomes")
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was shipped is published; whether it was in time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._events or self._failure, timeout_s)
            return not self._events

    def end_what_hangs(self) -> None:
        """End what the group's coordinator still counts as under way under this transactional id.

        A coordinator that has missed the end of a transaction holds the group's offsets back for
        ever, from those as well who would begin the next one. Any end of the same producer's will
        do. To be called while nothing is shipped.

        Raises:
            BrokerError: the broker refuses or does not answer.
            FencedError: another process has this one's place.
        """
        assert not self._events, "the thread has a transaction under way"
        self.check()
        if not self._nothing_hangs:
            return  # the thread is at it, or has none to end
        try:
            with plain_errors():
                self._give_up_what_hangs()
        except KafkaException as error:
            raise translated(error, "cannot end what hangs") from error

    def close(self, timeout_s: float) -> None:
        """Stop the thread; what is not published by then will be decided again by the next one."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        # Who is stuck is left behind: the next producer of the same name fences this one.
        self._thread.join(0.0 if self.is_stuck else timeout_s)
        self._lifeline.let_go()

    # -- the thread's side -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            publish = self._publish
            if self._config.transactional_id:
                publish = self._transact
                if not self._await_group():
                    return
                with plain_errors():
                    self._give_up_what_hangs()
            while (load := self._next_load()) is not None:
                with plain_errors():
                    publish(load)
        except EnsembleError as error:
            self._fail(error)
        except KafkaException as error:
            self._fail(self._judged(error))
        except Exception as error:
            log.exception("the outbox stopped")
            self._fail(BrokerError(f"publishing failed: {error}"))

    def _fail(self, failure: EnsembleError) -> None:
        log.warning("nothing is committed any more: %s", failure)
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _await_group(self) -> bool:
        """Wait for the first sign that the group is there; False if the end comes before."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_group or self._waiting or self._stopping)
            return bool(self._waiting) or not self._stopping

    def _next_load(self) -> Load | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if not self._waiting:
                return None
            load = Load()
            while self._waiting and load.events < _LOAD_EVENTS:
                load.add(self._waiting.popleft())
        return load

    def _transact(self, load: Load) -> None:
        offsets = [committable(place, position) for place, position in load.positions.items()]
        group = load.shipments[-1].group
        began = self._began_s = time.monotonic()
        producer = self._producer
        producer.begin_transaction()
        self._delivery.hand_over(load)
        producer.send_offsets_to_transaction(offsets, group, _COMMIT_TIMEOUT_S)
        ending = time.monotonic()
        producer.commit_transaction(_COMMIT_TIMEOUT_S)
        ended = time.monotonic()
        self._began_s = None
        if ended - ending > _BELIEVED_S:
            problem = f"a commit took {ended - ending:.1f} s, in which a broker may have restarted"
            raise RewindError(problem, doubtful=True)
        self._published(load, began)
        self._rest(began)

    def _give_up_what_hangs(self) -> None:
        self._began_s = time.monotonic()
        config = self._config
        topics = [t for t in (config.scored, config.dead_letters, config.corrections) if t]
        give_up_what_hangs(self._producer, topics, config.group, config.source, _COMMIT_TIMEOUT_S)
        self._began_s = None
        self._nothing_hangs = True

    def _publish(self, load: Load) -> None:
        began = time.monotonic()
        self._delivery.hand_over(load)
        if self._producer.flush(_COMMIT_TIMEOUT_S):
            raise BrokerError(f"no acknowledgement within {_COMMIT_TIMEOUT_S:.0f} s")
        if self._delivery.undelivered is not None:
            raise RewindError(f"a record was not accepted: {self._delivery.undelivered.str()}")
        with self._changed:
            self._acknowledged |= load.positions
        self._published(load, began)

    def _published(self, load: Load, began: float) -> None:
        took_s = time.monotonic() - began
        outputs = [output for shipment in load.shipments for output in shipment.outputs]
        with self._changed:
            self._events -= load.events
            self._changed.notify_all()
        self._on_published(outputs, took_s)

    def _rest(self, began: float) -> None:
        """Keep the least time between two transactions."""
        rest_s = self._config.commit_interval_ms / 1000 - (time.monotonic() - began)
        if rest_s > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, rest_s)

    def _judged(self, error: KafkaException) -> EnsembleError:
        """What an error of the client means for this process."""
        problem = translated(error, "publishing failed")
        if isinstance(problem, FencedError):
            # An epoch proves nothing; the group knows who has the slot. The broker fences a
            # producer whose transaction took too long. And while a transaction is under way it
            # lets a predecessor that wakes up ask for a newer epoch, whatever its own is, which
            # fences the successor in the middle of its work.
            reason = str(problem)
            if self._took_s() > self._transaction_timeout_s:
                reason = f"a transaction lasted longer than {self._transaction_timeout_s:g} s"
            return RewindError(reason, doubtful=True)
        if not self._config.transactional_id:
            return RewindError(str(problem)) if self.too_large else problem
        doubtful = self._took_s() > self._transaction_timeout_s + 1.0
        doubtful |= error.args[0].code() == KafkaError._FATAL  # noqa: SLF001 -- may be a fence
        # One that was given up has a successor on its way. To abort means at times to ask for a
        # newer epoch, which would fence that.
        if self._failure is None:
            with contextlib.suppress(KafkaException), plain_errors():
                self._producer.abort_transaction(_COMMIT_TIMEOUT_S)
        # By now the client has said what was not delivered, which is the reason; what was asked
        # next only found that something had failed.
        if self.too_large and self._delivery.undelivered is not None:
            problem = translated(self._delivery.undelivered, "publishing failed")
        return RewindError(str(problem), doubtful=doubtful)
