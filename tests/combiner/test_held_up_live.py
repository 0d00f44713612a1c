"""Offsets that the group holds back, for a transaction whose end it has missed."""

from collections.abc import Callable
from contextlib import closing

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from chaos.reader import TIMEOUT_S, read_messages
from combiner.outbox import Outbox
from combiner.outbox_config import OutboxConfig
from combiner.shipment import Shipment
from streams import awaited as awaited_module
from streams.columns import Position
from streams.embedded import EmbeddedKafka
from streams.settings import KafkaSettings
from streams.source import Source, committable
from tests.conftest import Topics


class Slot:
    """A topic with ten records, its reader, and the transactional id of the reader's slot."""

    def __init__(self, kafka: EmbeddedKafka, topics: Topics) -> None:
        self.kafka = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
        self.topic = topics("events")
        self.place = (self.topic, 0)
        self.id = f"{self.topic}.0"
        filler = Producer({"bootstrap.servers": self.kafka.bootstrap_servers})
        for number in range(10):
            filler.produce(self.topic, b"%d" % number)
        assert filler.flush(TIMEOUT_S) == 0
        self.free: Callable[[], None] | None = None

    def source(self) -> Source:
        return Source(
            self.kafka, group=f"{self.topic}.group", topics=[self.topic], on_held_up=self.free
        )

    def outbox(self) -> Outbox:
        to = (f"{self.topic}.group", self.topic, self.topic, self.topic, "e@1")
        return Outbox(OutboxConfig(self.kafka, *to, self.id, 0), lambda *_: None)


@pytest.fixture
def slot(kafka: EmbeddedKafka, topics: Topics) -> Slot:
    return Slot(kafka, topics)


def first_of(source: Source) -> int:
    """The offset of the first record that comes."""
    while not (messages := source.fetch(100, 0.1)):
        pass
    return int(messages[0].offset() or 0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited_module, "OFFSETS_TIMEOUT_S", 0.5)
    monkeypatch.setattr(awaited_module, "REQUEST_TIMEOUT_S", 1.0)


@pytest.mark.usefixtures("impatient")
def test_who_can_end_it_is_told_and_reading_goes_on(slot: Slot) -> None:
    hanging = Producer(
        {"bootstrap.servers": slot.kafka.bootstrap_servers, "transactional.id": slot.id}
    )
    with closing(slot.source()) as source:
        first_of(source)
        group = source.consumer.consumer_group_metadata()
        hanging.init_transactions(TIMEOUT_S)
        hanging.begin_transaction()
        hanging.send_offsets_to_transaction([committable(slot.place, 7)], group, TIMEOUT_S)
        slot.free = lambda: hanging.commit_transaction(TIMEOUT_S)
    with closing(slot.source()) as source:
        assert first_of(source) == 7


@pytest.mark.usefixtures("impatient")
def test_going_back_to_what_is_held_up_is_noticed_too(slot: Slot) -> None:
    hanging = Producer(
        {"bootstrap.servers": slot.kafka.bootstrap_servers, "transactional.id": slot.id}
    )
    slot.free = lambda: hanging.abort_transaction(TIMEOUT_S)
    with closing(slot.source()) as source:
        first_of(source)
        source.commit({slot.place: 3}, asynchronous=False)
        group = source.consumer.consumer_group_metadata()
        hanging.init_transactions(TIMEOUT_S)
        hanging.begin_transaction()
        hanging.send_offsets_to_transaction([committable(slot.place, 7)], group, TIMEOUT_S)
        source.seek_to_committed()
        assert first_of(source) == 3


def test_ending_what_hangs_commits_nothing(slot: Slot) -> None:
    with closing(slot.source()) as source:
        first_of(source)
        group = source.consumer.consumer_group_metadata()
        for offset in (4, 9):
            outbox = slot.outbox()
            outbox.ship(Shipment([], {slot.place: Position(offset)}, group))
            outbox.close(TIMEOUT_S)
            outbox.end_what_hangs()
            assert source.committed([slot.place]) == {slot.place: Position(offset)}


def given_up(slot: Slot, count: int) -> list[bytes | None]:
    """The first records behind those of the topic; no `read_committed` reader sees them."""
    raw = Consumer(
        {
            "bootstrap.servers": slot.kafka.bootstrap_servers,
            "group.id": "nobody",
            "isolation.level": "read_uncommitted",
        }
    )
    raw.assign([TopicPartition(slot.topic, 0, 10)])
    found = raw.consume(count, TIMEOUT_S)
    raw.close()
    messages = list(read_messages(slot.kafka.bootstrap_servers, [slot.topic], 1))
    assert [message.value() for message in messages] == [b"%d" % n for n in range(10)]
    return [message.value() for message in found]


def test_what_hangs_is_given_up_as_soon_as_the_group_is_there(slot: Slot) -> None:
    """By who has no partition, and nothing to publish, as well."""
    with closing(slot.source()) as source:
        first_of(source)
        outbox = slot.outbox()
        outbox.join()
        assert given_up(slot, 1) == [b""]
        outbox.close(TIMEOUT_S)
        outbox.check()


def test_what_hangs_in_the_outcomes_is_given_up_before_the_first_commit(slot: Slot) -> None:
    """The next commit of the same producer would have made it visible."""
    outbox = slot.outbox()
    with closing(slot.source()) as source:
        first_of(source)
        group = source.consumer.consumer_group_metadata()
        outbox.ship(Shipment([], {slot.place: Position(9)}, group))
        outbox.close(TIMEOUT_S)
        outbox.check()
    assert given_up(slot, 1) == [b""]


def test_before_the_group_is_there_nothing_begins(slot: Slot) -> None:
    """A client that asks too early who keeps the offsets of a group may wait for ever."""
    outbox = slot.outbox()
    outbox.close(TIMEOUT_S)
    outbox.check()
    outbox.end_what_hangs()
    with closing(slot.source()) as source:
        first_of(source)
        assert source.high_watermark(slot.place) == 10


def test_without_transactions_nothing_hangs(slot: Slot) -> None:
    slot.id = ""
    outbox = slot.outbox()
    outbox.join()
    outbox.end_what_hangs()
    outbox.close(TIMEOUT_S)
    with closing(slot.source()) as source:
        first_of(source)
        assert source.high_watermark(slot.place) == 10
