"""Producers of events that remember what the broker acknowledged."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from chaos.reader import RECONNECTING, TIMEOUT_S, Background
from cli.pacing import Pace
from streams.lifeline import Lifeline
from streams.settings import KafkaSettings

# What the n-th event is: value, key, timestamp in milliseconds (0 is the producer's clock).
Event = tuple[bytes | None, bytes | None, int]
HOUR_MS = 3_600_000

MakeEvent = Callable[[int], Event]

# What the keys of events begin with that cannot be scored: their values may be anything.
POISON_KEY = b"poison-"


def good_event(number: int) -> Event:
    """An event that every model can score; its id is `e<number>`, its key one of a thousand.

    >>> good_event(1207)
    (b'{"id":"e1207","x":0.7}', b'customer-207', 0)
    """
    return b'{"id":"e%d","x":0.%d}' % (number, number % 10), b"customer-%d" % (number % 1000), 0


def skewed_ms(number: int) -> int:
    """The timestamp that one of four producers gives: right, an hour ahead, behind, and in 1970."""
    now_ms = time.time_ns() // 1_000_000
    return (0, now_ms + HOUR_MS, now_ms - HOUR_MS, 1)[number // 7 % 4]


def name_of(message: Message) -> str:
    """What an outcome calls this event: its id, or the key of one that cannot be scored."""
    key = message.key() or b""
    if key.startswith(POISON_KEY):
        return key.decode()
    return str(msgspec.json.decode(message.value() or b"")["id"])


class Acknowledged:
    """Events that the broker has, and when they were sent.

    Attributes:
        sent_ns: event → monotonic time of the call that sent it.
        unplaced: the same for those whose offset nobody knows, by `name_of`: after a broker was
            killed it may answer a repeated request only with the word that it has the records.
        unsent: what a producer that lost its brokers never sent.
        doubtful: what it had sent without an answer, by name: events only if somebody saw them.
        vanished: names of those among them that are not in the topic: the broker's loss.
        copies: events that the topic holds without that anybody was told: what was sent again
            while the broker had it already. Each is an event of its own.
        failed: what was refused; must stay empty where everything is to arrive.
    """

    def __init__(self) -> None:
        self.sent_ns: dict[str, int] = {}
        self.unplaced: dict[str, int] = {}
        self.unsent: list[Message] = []
        self.doubtful: dict[str, int] = {}
        self.vanished: list[str] = []
        self.copies: set[str] = set()
        self.failed: list[KafkaError] = []

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """The producer's callback."""
        code = None if error is None else error.code()
        if code == KafkaError._PURGE_QUEUE:  # noqa: SLF001 -- the client's own names
            self.unsent.append(message)
        elif code == KafkaError._PURGE_INFLIGHT:  # noqa: SLF001
            self.doubtful[name_of(message)] = time.monotonic_ns()
        elif error is not None:
            self.failed.append(error)
        else:
            self._remember(message)

    def _remember(self, message: Message) -> None:
        waited_s = message.latency() or 0.0
        at_ns = time.monotonic_ns() - round(waited_s * 1e9)
        offset = message.offset()
        if offset is None or offset < 0:
            self.unplaced[name_of(message)] = at_ns
        else:
            self.sent_ns[f"{message.topic()}/{message.partition()}/{offset}"] = at_ns

    @property
    def events(self) -> Set[str]:
        """All that must have an outcome."""
        return self.sent_ns.keys() | self.copies

    def place(self, written: Mapping[str, str]) -> None:
        """Compare with what the topic holds: event → name."""
        untold = {name: source for source, name in written.items() if source not in self.sent_ns}
        for name, at_ns in (self.unplaced | self.doubtful).items():
            if (source := untold.get(name)) is not None:
                self.sent_ns[source] = at_ns
        names = set(written.values())
        self.vanished += [name for name in self.unplaced if name not in names]
        self.copies = written.keys() - self.sent_ns.keys()
        self.unplaced.clear()
        self.doubtful.clear()


def producer_for(servers: str, acknowledged: Acknowledged) -> Producer:
    """A producer that loses nothing while the broker is away for minutes."""
    return Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            # Of the default 5 ms: a broker on a shared machine pays for each request.
            "linger.ms": 3,
            "message.timeout.ms": 0,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
            "on_delivery": acknowledged.on_delivery,
            **RECONNECTING,
        }
    )


class Load(Background):
    """Sends events at a steady rate until it is closed, in turn to each partition.

    Args:
        servers: the brokers.
        topic: where to.
        partitions: how many it has.
        rate_per_s: how fast.
        acknowledged: where to remember what arrived.
        make: what to send.
        first: the number of the first event.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        partitions: int,
        rate_per_s: float,
        acknowledged: Acknowledged,
        make: MakeEvent = good_event,
        first: int = 0,
    ) -> None:
        super().__init__("load")
        self._topic, self._partitions = topic, partitions
        self._rate_per_s = rate_per_s
        self._make = make
        self._acknowledged = acknowledged
        self._servers = servers
        self._begin()
        self.number = first  # of the next event
        self._thread.start()

    def _run(self) -> None:
        pace = Pace(self._rate_per_s, time.monotonic_ns())
        while not self._stop.is_set():
            for _ in range(pace.due(time.monotonic_ns())):
                self._send()
            self._producer.poll(0)
            self._replace_if_lost()
            self._stop.wait(pace.wait_ns(time.monotonic_ns()) / 1e9)

    def _begin(self) -> None:
        self._producer = producer = producer_for(self._servers, self._acknowledged)
        self._lost = lost = threading.Event()
        self._lifeline = Lifeline(
            KafkaSettings(bootstrap_servers=self._servers),
            producer,
            lambda wait_s: producer.list_topics(self._topic, wait_s),
            lambda _: lost.set(),
        )

    def _replace_if_lost(self) -> None:
        """Go on with another producer when this one does not find its brokers again."""
        if not self._lost.is_set():
            return
        self._producer.purge()
        self._producer.flush(TIMEOUT_S)
        self._begin()
        unsent, self._acknowledged.unsent = self._acknowledged.unsent, []
        for message in unsent:
            self._producer.produce(
                self._topic,
                value=message.value(),
                key=message.key(),
                partition=message.partition() or 0,
                timestamp=message.timestamp()[1],
            )

    def _send(self) -> None:
        value, key, timestamp_ms = self._make(self.number)
        self._producer.produce(
            self._topic,
            value=value,
            key=key,
            partition=self.number % self._partitions,
            timestamp=timestamp_ms,
        )
        self.number += 1

    def close(self) -> None:
        """Send no more, and wait until the broker has everything.

        Raises:
            AssertionError: it has not within a generous time, or refused something.
        """
        super().close()
        give_up_s = time.monotonic() + TIMEOUT_S
        while (left := self._producer.flush(1.0)) and time.monotonic() < give_up_s:
            self._replace_if_lost()
        self._lifeline.close()
        refused = Counter(error.str() for error in self._acknowledged.failed)
        if left or refused:
            raise AssertionError(f"{left} not acknowledged, refused: {dict(refused)}")


def ticks(every_s: float, seconds: float, stop: threading.Event | None = None) -> Iterator[int]:
    """0, 1, 2 … at evenly spaced moments for some seconds; whoever is late is not hurried."""
    stop = stop or threading.Event()
    end_s = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end_s and not stop.is_set():
        yield number
        number += 1
        stop.wait(min(every_s, max(0.0, end_s - time.monotonic())))
