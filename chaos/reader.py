"""Readers of outcomes that know nothing of the combiner: plain `read_committed` consumers."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from chaos.verdict import DEAD, Outcome
from streams.records import Headers

# A process imports for seconds on a loaded machine, a static member that left for good is missed
# after its session: nothing here waits for time to pass.
TIMEOUT_S = 60.0
# Longer than a broker's restart.
SILENCE_S = 8.0
# A client that has lost its broker finds it again, and does not wait for another one.
RECONNECTING: dict[str, str | int] = {
    "metadata.recovery.strategy": "none",
    "reconnect.backoff.max.ms": 200,
    "topic.metadata.refresh.interval.ms": 10_000,
}


def wait_for(
    reached: Callable[[], object], what: Callable[[], str], timeout_s: float = TIMEOUT_S
) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not within a generous time; says what there is instead.
    """
    pause = threading.Event()
    give_up_s = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > give_up_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what()}")
        pause.wait(0.01)


class Background:
    """A loop on a thread of its own; what it raises is raised by `close`."""

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 -- raised where somebody looks
            self._failure = error

    def _run(self) -> None:
        """The loop; returns once `_stop` is set."""
        raise AssertionError("a background part without a loop")

    def close(self) -> None:
        """End the loop and wait for it; raises what ended it before."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def reading(servers: str, **properties: str | int | bool) -> Consumer:
    """A consumer that belongs to no group and sees what is committed."""
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
            **RECONNECTING,
            **properties,
        }
    )


def places_of(topics: Iterable[str], partitions: int) -> list[TopicPartition]:
    """All partitions of some topics, from the very first record on."""
    return [TopicPartition(topic, p, 0) for topic in topics for p in range(partitions)]


def headers_of(message: Message) -> list[tuple[str, str]]:
    """The headers of a record as text, in order."""
    headers = message.headers() or []
    assert isinstance(headers, list)
    return [
        (name, value.decode() if isinstance(value, bytes) else value or "")
        for name, value in headers
    ]


def outcome_of(message: Message, read_ns: int = 0, *, whole: bool = True) -> Outcome:
    """An outcome from a record of the scored or the dead-letter topic.

    Args:
        message: the record.
        read_ns: when it was read, by the monotonic clock.
        whole: keep the message and its JSON object.
    """
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    place = (topic, partition, offset)
    kept = message if whole else None
    headers = dict(headers_of(message)) if message.headers() else {}
    if Headers.TOPIC in headers:
        source = "/".join(headers[n] for n in (Headers.TOPIC, Headers.PARTITION, Headers.OFFSET))
        content = f"dead: {headers[Headers.CLASS]}"
        key = (message.key() or b"").decode(errors="replace")
        return Outcome(source, key, content, place, DEAD, read_ns, kept)
    record = json.loads(message.value() or b"")
    rung = record["fallback"]
    content = f"{record['id']} {record['score']!r} {record['label']} {rung} {record['missing']}"
    return Outcome(
        record["source"], record["id"], content, place, rung, read_ns, kept, record if whole else {}
    )


def read_all(
    servers: str, topics: Sequence[str], partitions: int, *, whole: bool = True
) -> list[Outcome]:
    """All committed outcomes from the very first, by a consumer of its own; raises as below."""
    messages = read_messages(servers, topics, partitions)
    return [outcome_of(message, whole=whole) for message in messages]


def read_messages(servers: str, topics: Sequence[str], partitions: int) -> Iterator[Message]:
    """All committed records of some topics, in the order of their partitions.

    Raises:
        AssertionError: the broker does not hand out everything in a generous time.
    """
    consumer = reading(servers, **{"enable.partition.eof": True})
    try:
        places = places_of(topics, partitions)
        consumer.assign(places)
        ended: set[tuple[str | None, int | None]] = set()
        give_up_s = time.monotonic() + TIMEOUT_S
        while len(ended) < len(places):
            for message in consumer.consume(1000, 0.05):
                error = message.error()
                if error is None:
                    yield message
                    give_up_s = time.monotonic() + TIMEOUT_S
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- its own name
                    ended.add((message.topic(), message.partition()))
                elif error.fatal():
                    raise AssertionError(error)
            if time.monotonic() > give_up_s:
                raise AssertionError(f"only {len(ended)} of {len(places)} partitions")
    finally:
        consumer.close()


class Reader(Background):
    """Reads outcomes while everything runs, as any consumer of the scores would.

    Attributes:
        outcomes: in the order in which they were read.
        sources: their events.
    """

    def __init__(
        self, servers: str, topics: Sequence[str], partitions: int, *, whole: bool = True
    ) -> None:
        super().__init__("reader")
        self.outcomes: list[Outcome] = []
        self.sources: set[str] = set()
        self._whole = whole
        self._servers = servers
        self._next = {(p.topic, p.partition): 0 for p in places_of(topics, partitions)}
        self._begin()
        self._thread.start()

    def _begin(self) -> None:
        """Go on behind what was read, with a new consumer."""
        self._consumer = reading(self._servers)
        self._consumer.assign(
            [TopicPartition(*place, offset) for place, offset in self._next.items()]
        )
        self._heard_s = time.monotonic()

    def _begin_anew(self) -> None:
        """A client that hears nothing may never hear anything again.

        After a broker was killed one may have lost its brokers (`streams.lifeline`), or know them
        and fetch nothing all the same.
        """
        # Closing such a one may take for ever.
        threading.Thread(target=self._consumer.close, name="close", daemon=True).start()
        self._begin()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if time.monotonic() - self._heard_s > SILENCE_S:
                    self._begin_anew()
                messages = self._consumer.consume(1, 0.05)
                if messages:
                    messages += self._consumer.consume(999, 0)
                    self._heard_s = time.monotonic()
                now_ns = time.monotonic_ns()
                for message in messages:
                    if message.error() is None:
                        outcome = outcome_of(message, now_ns, whole=self._whole)
                        self.outcomes.append(outcome)
                        self.sources.add(outcome.source)
                        self._next[outcome.place[:2]] = outcome.place[2] + 1
        finally:
            self._consumer.close()
