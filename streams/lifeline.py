"""Ends the wait for brokers that a client has forgotten.

librdkafka (2.10 to 2.16 at least, its issue 5301) drops every broker that a metadata response does
not name, the bootstrap servers too. A broker that is just coming back, or that stood still for
longer than its session with the controller, may name none at all. The client then has nobody to
ask, now and for ever, and does not always say so. It is told of its bootstrap servers again.
"""

import logging
import threading
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from streams.bootstrap import Client, bootstrap_again
from streams.client import shared_properties
from streams.errors import BrokerError
from streams.settings import KafkaSettings

log = logging.getLogger(__name__)

# Asks for metadata within so many seconds; raises KafkaException if there is no answer.
Ask = Callable[[float], object]

# A metadata request so often costs nothing that could be measured.
_EVERY_S = 0.5
# Of a client that finds nobody to ask; one that finds brokers waits no longer than they take.
_PATIENCE_S = 0.5
# Generous: a client tries anew twice a second, and needs a connection and a few requests.
_LAST_CHANCE_S = 3.0


class Handover:
    """Has the thread that owns a consumer ask, between two calls of its own.

    The calls of a consumer wait for each other, without any order: one that comes from a second
    thread waits for as long as the owner's follow each other without a pause.

    Args:
        ask: asks by means of the consumer.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._changed = threading.Condition()
        self._wanted_s: float | None = None
        self._heard = False
        self._failure: KafkaException | None = None
        self._closed = False

    def __call__(self, within_s: float) -> None:
        """The second thread's side: wait until the owner has asked.

        Raises:
            KafkaException: what asking raised.
            RuntimeError: closed meanwhile.
        """
        with self._changed:
            self._wanted_s = within_s
            self._changed.wait_for(lambda: self._wanted_s is None or self._closed)
            if self._closed:
                raise RuntimeError("the owner asks no more")
            if self._failure is not None:
                raise self._failure

    def serve(self, *, heard: bool) -> None:
        """The owner's side, to be called often: ask if that is wanted and needed.

        Args:
            heard: whether something came in; who has brokers to hear from needs not ask.
        """
        self._heard = self._heard or heard
        if self._wanted_s is None:
            return
        failure = None
        if not self._heard:
            try:
                self._ask(self._wanted_s)
            except KafkaException as error:
                failure = error
        self._heard = False
        with self._changed:
            self._wanted_s, self._failure = None, failure
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Lifeline:
    """Asks now and then by means of a client, and tells it of its brokers if it has lost them.

    They are lost, and not just away, when a new client gets an answer and this one finds nobody to
    ask. A request that waits behind a large answer is no sign of that.

    Args:
        kafka: where the cluster is.
        client: whom to look after; told of the cluster's servers once more if it has lost them.
        ask: asks by means of the client, and of one topic: a client that has lost its brokers
            does not end a request for all of them, whatever its time limit. First called a while
            after this.
        on_lost: called, on a thread of its own and once, when it finds nobody all the same.
        ask_anew: asks by means of a new client.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        client: Client,
        ask: Ask,
        on_lost: Callable[[BrokerError], None],
        ask_anew: Ask | None = None,
    ) -> None:
        self._kafka = kafka
        self._client = client
        self._ask = ask
        self._on_lost = on_lost
        self._ask_anew = ask_anew or self._new_client
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lifeline", daemon=True)
        self._thread.start()

    def let_go(self) -> None:
        """Ask no more, but perhaps once; for a client that need not be closed."""
        self._closed.set()

    def close(self) -> None:
        """Ask no more; to be called before the client is closed."""
        self.let_go()
        # A question that has no answer by now will have none.
        self._thread.join(2 * _LAST_CHANCE_S)

    def _look(self) -> None:
        try:
            while not self._closed.wait(_EVERY_S):
                cut_off = self._is_cut_off(_PATIENCE_S) and self._is_answered_anew()
                if cut_off and not self._bring_back():
                    problem = "the Kafka client has lost its brokers, though they answer others"
                    self._on_lost(BrokerError(problem))
                    return
        except RuntimeError as error:
            log.debug("the client was closed meanwhile: %s", error)

    def _bring_back(self) -> bool:
        """Tell the client of its servers; whether it finds one, or is closed."""
        if self._closed.is_set():
            return True
        bootstrap_again(self._client, self._kafka.bootstrap_servers)
        if self._is_cut_off(_LAST_CHANCE_S):
            return False
        log.info("a Kafka client that found no broker was told of them")
        return True

    def _is_cut_off(self, within_s: float) -> bool:
        """Whether the client finds no broker to ask; one that is slow to answer is one."""
        if self._closed.is_set():
            return False
        try:
            self._ask(within_s)
        except KafkaException as error:
            return bool(error.args[0].code() == KafkaError._TRANSPORT)  # noqa: SLF001 -- its name
        return False

    def _is_answered_anew(self) -> bool:
        try:
            self._ask_anew(_LAST_CHANCE_S)
        except KafkaException as error:
            log.debug("no answer: %s", error)
            return False
        return True

    def _new_client(self, timeout_s: float) -> None:
        # Refused connections are the expected answer while nobody is there.
        Producer({**shared_properties(self._kafka), "log_level": 0}).list_topics(timeout=timeout_s)


class ConsumersLifeline:
    """A lifeline whose questions are asked by the thread that owns the consumer.

    Args:
        kafka: where the cluster is.
        consumer: whom to look after.
        topic: one of those that it reads.
        on_lost: as of `Lifeline`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        consumer: Consumer,
        topic: str,
        on_lost: Callable[[BrokerError], None],
    ) -> None:
        self._handover = Handover(lambda wait_s: consumer.list_topics(topic, wait_s))
        self._lifeline = Lifeline(kafka, consumer, self._handover, on_lost)

    def serve(self, *, heard: bool) -> None:
        """See `Handover.serve`."""
        self._handover.serve(heard=heard)

    def close(self) -> None:
        """Ask no more; to be called before the consumer is closed."""
        self._handover.close()
        self._lifeline.close()
