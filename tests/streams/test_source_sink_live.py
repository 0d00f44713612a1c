"""The two doors, against a real broker."""

import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams import awaited as awaited_module
from streams.columns import Position
from streams.embedded import EmbeddedKafka
from streams.errors import BrokerError, MissingRecordsError
from streams.settings import KafkaSettings
from streams.sink import Sink
from streams.source import Source

TIMEOUT_S = 30.0


@pytest.fixture
def settings(kafka: EmbeddedKafka) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def sink(settings: KafkaSettings):
    sink = Sink(settings)
    yield sink
    sink.close()


class Reader:
    """A source that remembers what it was told."""

    def __init__(self, settings: KafkaSettings, topic: str, instance: str = "") -> None:
        self.owned: set[int] = set()
        self.told: list[str] = []
        self.missing: list[tuple[str, int]] = []
        self.source = Source(
            settings,
            group=f"{topic}-group",
            topics=[topic],
            instance=instance,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_missing=lambda topic, count: self.missing.append((topic, count)),
        )

    def _on_assign(self, partitions):
        self.told.append("assigned")
        self.owned |= {p.partition for p in partitions}

    def _on_revoke(self, partitions):
        self.told.append("revoked")
        self.owned -= {p.partition for p in partitions}

    def read(self, count: int, max_records: int = 1000) -> list[tuple[int, int]]:
        """(partition, offset) of at least so many records."""
        found: list[tuple[int, int]] = []

        def enough() -> bool:
            messages = self.source.fetch(max_records, 0.05)
            assert len(messages) <= max_records
            found.extend((m.partition(), m.offset()) for m in messages)
            return len(found) >= count

        until(enough)
        return found


def until(done: Callable[[], bool]) -> None:
    give_up = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < give_up


@pytest.fixture
def readers(settings: KafkaSettings):
    made: list[Reader] = []

    def make(topic: str, instance: str = "") -> Reader:
        made.append(Reader(settings, topic, instance))
        return made[-1]

    yield make
    for reader in made:
        reader.source.close()


def numbers(count: int) -> list[tuple[bytes | None, bytes | None]]:
    return [(b"k", str(i).encode()) for i in range(count)]


def test_what_is_produced_is_fetched_with_everything_that_belongs_to_it(sink, readers, topics):
    topic = topics("events", 2)
    delivered = threading.Event()
    sink.produce(
        topic,
        value=b"v",
        key=b"k",
        partition=1,
        headers=[("a", b"1"), ("b", None)],
        on_delivered=delivered.set,
    )
    sink.flush(TIMEOUT_S)
    assert delivered.is_set()
    source = readers(topic).source
    messages = []
    until(lambda: messages.extend(source.fetch(10, 0.1)) or len(messages) == 1)
    message = messages[0]
    assert (message.key(), message.value(), message.partition()) == (b"k", b"v", 1)
    assert message.headers() == [("a", b"1"), ("b", None)]


def test_a_batch_keeps_its_order_and_fetches_keep_to_their_size(sink, readers, topics):
    topic = topics("events")
    sink.produce_batch(topic, 0, numbers(500))
    sink.flush(TIMEOUT_S)
    assert readers(topic).read(500, max_records=70) == [(0, i) for i in range(500)]


def test_a_full_queue_is_waited_for(kafka: EmbeddedKafka, readers, topics):
    topic = topics("events")
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, producer={"queue.buffering.max.messages": 50}
    )
    sink = Sink(settings)
    sink.produce_batch(topic, 0, numbers(1000))
    for _ in range(200):
        sink.produce(topic, value=b"", partition=0)
    sink.close()
    assert readers(topic).read(1200) == [(0, i) for i in range(1200)]


def test_a_record_that_cannot_be_delivered_is_raised_by_the_next_call(sink, topics):
    topic = topics("events", max_message_bytes="1000")
    sink.produce(topic, value=b"x" * 5000)
    with pytest.raises(BrokerError, match=f"topic {topic}: a record was not delivered.*too large"):
        sink.flush(TIMEOUT_S)
    with pytest.raises(BrokerError, match="not delivered"):
        sink.produce(topic, value=b"small")


def test_a_record_beyond_the_clients_own_limit_is_refused_at_once(sink, topics):
    with pytest.raises(BrokerError, match="size too large"):
        sink.produce(topics("events"), value=b"x" * 2_000_000)
    with pytest.raises(BrokerError, match="size too large"):
        sink.produce_batch(topics("more"), 0, [(None, b"x" * 2_000_000)])


def test_a_topic_that_does_not_exist_is_named(settings, sink, topics):
    nowhere = topics.prefix + "nowhere"
    with pytest.raises(BrokerError, match=f"{nowhere}.*Unknown topic"):
        Reader(settings, nowhere).read(1)
    sink.produce(nowhere, value=b"")
    with pytest.raises(BrokerError, match=f"topic {nowhere}: a record was not delivered"):
        sink.flush(TIMEOUT_S)


def test_flush_does_not_wait_for_a_broker_that_is_not_there():
    sink = Sink(KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    sink.produce("t", value=b"")
    with pytest.raises(BrokerError, match=r"1 records not acknowledged within 0\.2 s"):
        sink.flush(0.2)


def test_an_idle_source_returns_when_it_was_told_to(settings, readers, topics):
    source = readers(topics("events")).source
    until(lambda: source.fetch(10, 0.05) == [])
    began = time.monotonic()
    assert source.fetch(10, 0.1) == []
    assert time.monotonic() - began < TIMEOUT_S / 2


def test_reading_goes_on_where_it_was_committed(sink, readers, topics):
    topic = topics("events", 2)
    for partition in (0, 1):
        sink.produce_batch(topic, partition, numbers(10))
    sink.flush(TIMEOUT_S)
    first = readers(topic, "a")
    first.read(20)
    first.source.commit({(topic, 0): 3}, asynchronous=False)
    first.source.commit({(topic, 1): Position(9, "beside it")})
    first.source.commit({})
    until(lambda: first.source.committed([(topic, 1)])[(topic, 1)].offset == 9)
    assert first.source.committed([(topic, 0), (topic, 1)]) == {
        (topic, 0): Position(3), (topic, 1): Position(9, "beside it"),
    }  # fmt: skip
    first.source.close()
    assert first.told == ["assigned", "revoked"]
    assert sorted(readers(topic, "a").read(8)) == [*((0, i) for i in range(3, 10)), (1, 9)]


def test_a_client_that_has_lost_its_brokers_is_left_as_it_is(readers, topics):
    """To close it would mean to wait for answers to what it cannot send."""
    source = readers(topics("events")).source
    until(lambda: source.fetch(10, 0.05) == [] and bool(source.consumer.assignment()))
    source._lifeline._lifeline._on_lost(BrokerError("lost"))
    with pytest.raises(BrokerError, match="lost"):
        source.fetch(10, 0.05)
    source.close()
    assert source.consumer.assignment()
    source.consumer.close()


def test_going_back_to_what_was_committed_reads_paused_partitions_too(sink, readers, topics):
    topic = topics("events", 2)
    for partition in (0, 1):
        sink.produce_batch(topic, partition, numbers(5))
    sink.flush(TIMEOUT_S)
    reader = readers(topic)
    reader.read(10)
    reader.source.commit({(topic, 0): 2}, asynchronous=False)
    reader.source.pause([(topic, 0), (topic, 1)])
    reader.source.seek_to_committed()
    expected = [*((0, i) for i in range(2, 5)), *((1, i) for i in range(5))]
    assert sorted(reader.read(8)) == expected
    assert reader.source.high_watermark((topic, 0)) == 5


def test_a_paused_partition_is_silent_and_the_other_is_not(sink, readers, topics):
    topic = topics("events", 2)
    reader = readers(topic)
    until(lambda: bool(reader.source.fetch(1, 0.05) or reader.owned))
    reader.source.pause([(topic, 0), (topic, 7)])
    for partition in (0, 1):
        sink.produce_batch(topic, partition, numbers(5))
    sink.flush(TIMEOUT_S)
    assert reader.read(5) == [(1, i) for i in range(5)]
    assert reader.source.fetch(10, 0.2) == []
    reader.source.resume([(topic, 0)])
    assert reader.read(5) == [(0, i) for i in range(5)]


def test_a_partition_that_was_paused_comes_back_unpaused(sink, readers, topics):
    topic = topics("events", 2)
    first = readers(topic)
    until(lambda: first.source.fetch(1, 0.05) == [] and first.owned == {0, 1})
    first.source.pause([(topic, 0), (topic, 1)])
    second = readers(topic)

    def shared() -> bool:
        first.source.fetch(1, 0.05)
        second.source.fetch(1, 0.05)
        return len(first.owned) == len(second.owned) == 1

    until(shared)
    second.source.close()
    sink.produce_batch(topic, 0, numbers(3))
    sink.produce_batch(topic, 1, numbers(3))
    sink.flush(TIMEOUT_S)
    # What the first one reads before it hears of the change, it reads again.
    found: set[tuple[int, int]] = set()
    until(lambda: found.update(first.read(1)) or len(found) == 6)


def test_a_broken_callback_is_raised_by_fetch(settings, topics):
    topic = topics("events")

    def broken(_partitions):
        raise RuntimeError("told too early")

    source = Source(settings, group=f"{topic}-group", topics=[topic], on_assign=broken)
    with pytest.raises(RuntimeError, match="told too early"):
        until(lambda: source.fetch(1, 0.05) is None)
    source.close()


# -- where to begin --------------------------------------------------------------------------


def delete(settings: KafkaSettings, topic: str, partition: int, before: int) -> None:
    """What retention does, at once."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
        future.result(TIMEOUT_S)


def committed_at_3(settings: KafkaSettings, sink: Sink, topic: str) -> None:
    """Two partitions of ten records each, and a group that was at 3 in both."""
    for partition in (0, 1):
        sink.produce_batch(topic, partition, numbers(10))
    sink.flush(TIMEOUT_S)
    reader = Reader(settings, topic, "a")
    reader.read(20)
    reader.source.commit({(topic, 0): 3, (topic, 1): 3}, asynchronous=False)
    reader.source.close()


def test_records_deleted_before_they_were_read_are_an_error(settings, sink, topics):
    topic = topics("events", 2)
    committed_at_3(settings, sink, topic)
    delete(settings, topic, 0, 8)
    reader = Reader(settings, topic, "a")
    expected = f"{topic}/0: 5 records from offset 3 on were deleted.*would go on at 8.*at 10"
    with pytest.raises(MissingRecordsError, match=expected):
        reader.read(15)
    assert reader.missing == []
    reader.source.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize(("policy", "goes_on_at", "count"), [("earliest", 8, 5), ("latest", 10, 7)])
def test_what_is_missing_is_counted_where_the_settings_say_to_go_on(
    settings, sink, topics, policy, goes_on_at, count, protocol
):
    topic = topics("events", 2)
    committed_at_3(settings, sink, topic)
    delete(settings, topic, 0, 8)
    lenient = settings.model_copy(
        update={"on_missing_offsets": policy, "consumer": {"group.protocol": protocol}}
    )
    reader = Reader(lenient, topic, "a")
    until(lambda: reader.source.fetch(1, 0.05) is not None and reader.missing)
    assert reader.missing == [(topic, count)]
    sink.produce_batch(topic, 0, numbers(2))
    sink.flush(TIMEOUT_S)
    found: list[int] = []
    while len(found) < 12 - goes_on_at:  # the other partition's come as they like
        found += [offset for partition, offset in reader.read(1) if partition == 0]
    assert found == list(range(goes_on_at, 12))
    reader.source.close()


def test_records_deleted_while_reading_are_an_error_too(settings, sink, readers, topics):
    topic = topics("events")
    reader = readers(topic)
    until(lambda: reader.source.fetch(1, 0.05) is not None and reader.owned)
    reader.source.pause([(topic, 0)])
    sink.produce_batch(topic, 0, numbers(10))
    sink.flush(TIMEOUT_S)
    reader.source.commit({(topic, 0): 1}, asynchronous=False)
    delete(settings, topic, 0, 5)
    reader.source.seek_to_committed()
    with pytest.raises(MissingRecordsError, match="4 records from offset 1 on"):
        reader.read(5)


def test_a_topic_that_was_made_anew_is_an_error(kafka: EmbeddedKafka, settings, sink, topics):
    topic = topics("events", 2)
    committed_at_3(settings, sink, topic)
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    for future in admin.delete_topics([topic]).values():
        future.result(TIMEOUT_S)
    until(lambda: topic not in admin.list_topics(timeout=TIMEOUT_S).topics)
    topics("events", 2)
    until(lambda: topic in admin.list_topics(timeout=TIMEOUT_S).topics)
    # The broker forgets what was committed with a topic; a group that was restored does not.
    reader = Reader(settings, topic, "a")
    until(lambda: reader.source.fetch(1, 0.05) is not None and len(reader.owned) == 2)
    reader.source.commit({(topic, 1): 3}, asynchronous=False)
    reader.source.seek_to_committed()
    with pytest.raises(MissingRecordsError, match=r"offset 3 lies behind the end, 0"):
        reader.read(1)
    reader.source.close()


@pytest.mark.parametrize(("first", "expected"), [("earliest", [0, 1, 2]), ("latest", [2])])
def test_the_first_start_begins_where_it_is_told(settings, sink, topics, first, expected):
    topic = topics("events")
    sink.produce_batch(topic, 0, numbers(2))
    sink.flush(TIMEOUT_S)
    reader = Reader(settings.model_copy(update={"consumer": {"auto.offset.reset": first}}), topic)
    until(lambda: reader.source.fetch(0, 0.05) is not None and reader.source._placement._starts)
    place = TopicPartition(topic, 0)
    # The end is where it was when the client asked for it.
    if first == "latest":
        until(
            lambda: (
                reader.source.fetch(1, 0.05) == []
                and reader.source.consumer.get_watermark_offsets(place, cached=True)[1] == 2
            )
        )
    sink.produce_batch(topic, 0, numbers(1))
    sink.flush(TIMEOUT_S)
    assert [offset for _, offset in reader.read(len(expected))] == expected
    assert reader.missing == []
    reader.source.close()


def test_no_place_to_begin_is_an_error_if_it_is_asked_for(settings, topics):
    topic = topics("events")
    strict = settings.model_copy(update={"consumer": {"auto.offset.reset": "error"}})
    reader = Reader(strict, topic)
    with pytest.raises(MissingRecordsError, match="no committed offset"):
        reader.read(1)
    reader.source.close()


def test_offsets_that_an_open_transaction_holds_up_are_missed(
    kafka: EmbeddedKafka, settings, sink, readers, topics, monkeypatch
):
    topic = topics("events")
    sink.produce_batch(topic, 0, numbers(3))
    sink.flush(TIMEOUT_S)
    first = readers(topic, "a")
    first.read(3)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"{topic}-open"}
    )
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    group = first.source.consumer.consumer_group_metadata()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 2)], group, TIMEOUT_S)
    first.source.close()
    monkeypatch.setattr(awaited_module, "OFFSETS_TIMEOUT_S", 0.5)
    monkeypatch.setattr(awaited_module, "REQUEST_TIMEOUT_S", 1.0)
    second = readers(topic, "a")
    with pytest.raises(BrokerError, match="a transaction that does not end holds them up"):
        second.read(1)
    producer.abort_transaction(TIMEOUT_S)
    # Nothing was committed, so everything is read.
    assert [offset for _, offset in second.read(3)] == [0, 1, 2]
