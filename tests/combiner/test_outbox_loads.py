"""How much of what is shipped leaves with one transaction, and when more is wanted."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from combiner import delivery as delivery_module
from combiner import outbox as outbox_module
from combiner.outbox import Outbox
from combiner.outbox_config import OutboxConfig
from combiner.output import Output
from combiner.shipment import Shipment
from streams.settings import KafkaSettings

TIMEOUT_S = 20.0
LOAD = 10
PLACE = ("events", 0)


class SlowProducer:
    """A client whose transactions end when somebody lets them."""

    def __init__(self, _properties: object) -> None:
        self.begun = threading.Semaphore(0)
        self.commits = threading.Semaphore(0)
        self.loads = [0]

    def list_topics(self, _topic: str, _timeout_s: float) -> None:
        """Nothing."""

    def init_transactions(self, _timeout_s: float) -> None:
        """Nothing."""

    def begin_transaction(self) -> None:
        """Nothing."""

    def produce_batch(self, _topic: str, messages: list[object], partition: int) -> None:
        del partition
        self.loads[-1] += len(messages)

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.begun.release()

    def commit_transaction(self, _timeout_s: float) -> None:
        assert self.commits.acquire(timeout=TIMEOUT_S)
        self.loads.append(0)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> SlowProducer:
    made = SlowProducer({})
    monkeypatch.setattr(delivery_module, "Producer", lambda _properties: made)
    monkeypatch.setattr(outbox_module, "give_up_what_hangs", lambda *_: None)
    monkeypatch.setattr(outbox_module, "_LOAD_EVENTS", LOAD)
    return made


@pytest.fixture
def outbox(producer: SlowProducer) -> Iterator[Outbox]:
    config = OutboxConfig(KafkaSettings(), "g", "events", "s", "d", "e@1", "e.0", 0)
    made = Outbox(config, lambda *_: None)
    yield made
    for _ in range(100):
        producer.commits.release()
    made.close(TIMEOUT_S)


def shipment(events: int) -> Shipment:
    nothing, no_time = np.zeros(5, dtype=np.int64), np.empty(0)
    scored = [(None, b"score")] * events
    return Shipment(
        [Output(PLACE, scored, [], [], nothing, nothing, no_time, no_time)], {PLACE: events}
    )


def test_what_came_meanwhile_leaves_together_up_to_a_load(
    producer: SlowProducer, outbox: Outbox
) -> None:
    outbox.ship(shipment(1))
    assert producer.begun.acquire(timeout=TIMEOUT_S)
    for _ in range(5):
        outbox.ship(shipment(4))
    for _ in range(3):
        producer.commits.release()
    assert outbox.drain(TIMEOUT_S)
    assert producer.loads == [1, 12, 8, 0]


def test_while_one_load_is_on_its_way_another_may_gather_and_no_more(
    producer: SlowProducer, outbox: Outbox
) -> None:
    outbox.ship(shipment(LOAD))
    assert producer.begun.acquire(timeout=TIMEOUT_S)
    assert outbox.await_room(TIMEOUT_S)
    outbox.ship(shipment(LOAD))
    assert not outbox.await_room(0.001)
    assert not outbox.is_behind
    producer.commits.release()
    assert outbox.await_room(TIMEOUT_S)


def test_it_is_behind_when_more_is_shipped_all_the_same(
    producer: SlowProducer, outbox: Outbox
) -> None:
    outbox.ship(shipment(4 * LOAD + 1))
    assert outbox.is_behind
    producer.commits.release()
    assert outbox.drain(TIMEOUT_S)
    assert not outbox.is_behind
