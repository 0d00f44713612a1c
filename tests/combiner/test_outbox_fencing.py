"""A producer that the broker fences proves nothing: the group is asked who has the slot."""

import threading
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from combiner import delivery as delivery_module
from combiner import outbox as outbox_module
from combiner.outbox import Outbox
from combiner.outbox_config import OutboxConfig
from combiner.rewinding import RewindError
from combiner.shipment import Shipment
from streams.errors import BrokerError
from streams.settings import KafkaSettings

TIMEOUT_S = 20.0


class FencedProducer:
    """A client whose transaction is refused because of its epoch."""

    def __init__(self, _properties: object) -> None:
        """Nothing."""

    def list_topics(self, _topic: str, _timeout_s: float) -> None:
        """Nothing."""

    def init_transactions(self, _timeout_s: float) -> None:
        """Nothing."""

    def begin_transaction(self) -> None:
        """Nothing."""

    def send_offsets_to_transaction(self, *_: object) -> None:
        raise KafkaException(KafkaError(KafkaError.PRODUCER_FENCED, "there is a newer epoch"))

    def abort_transaction(self, _timeout_s: float) -> None:
        """Nothing."""


class InterruptedProducer(FencedProducer):
    """One that hands out log lines when it is refused."""

    def send_offsets_to_transaction(self, *_: object) -> None:
        try:
            super().send_offsets_to_transaction()
        except KafkaException as error:
            raise SystemError("returned a result with an exception set") from error


class SpoiltProducer(FencedProducer):
    """One that says which record was not delivered when the transaction is given up."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._tell = properties["on_delivery"]

    def send_offsets_to_transaction(self, *_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._STATE, "erroneous state"))

    def abort_transaction(self, _timeout_s: float) -> None:
        self._tell(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "the record is too large"), None)


class AbandonedProducer(FencedProducer):
    """One whose request fails once somebody lets it, and that counts what it gives up."""

    def __init__(self, properties: dict[str, Any]) -> None:
        super().__init__(properties)
        self.entered, self.let_go = threading.Event(), threading.Event()
        self.given_up = 0

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.entered.set()
        assert self.let_go.wait(TIMEOUT_S)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))

    def abort_transaction(self, _timeout_s: float) -> None:
        self.given_up += 1


class LateProducer(FencedProducer):
    """One that hears of the end of a transaction, and late."""

    def send_offsets_to_transaction(self, *_: object) -> None:
        """Nothing."""

    def commit_transaction(self, _timeout_s: float) -> None:
        """Nothing."""


def outbox_of(
    monkeypatch: pytest.MonkeyPatch, transaction_timeout_ms: int, producer: type[FencedProducer]
) -> Outbox:
    monkeypatch.setattr(delivery_module, "Producer", producer)
    monkeypatch.setattr(outbox_module, "give_up_what_hangs", lambda *_: None)
    kafka = KafkaSettings(producer={"transaction.timeout.ms": transaction_timeout_ms})
    config = OutboxConfig(kafka, "g", "events", "s", "d", "e@1", "e.0", 0)
    return Outbox(config, lambda *_: None)


def failure(
    monkeypatch: pytest.MonkeyPatch,
    transaction_timeout_ms: int,
    producer: type[FencedProducer] = FencedProducer,
) -> BrokerError:
    outbox = outbox_of(monkeypatch, transaction_timeout_ms, producer)
    outbox.ship(Shipment([], {("events", 0): 1}))
    outbox.close(TIMEOUT_S)
    with pytest.raises(BrokerError) as raised:
        outbox.check()
    return raised.value


@pytest.mark.parametrize("producer", [FencedProducer, InterruptedProducer])
def test_a_fenced_producer_is_in_doubt(
    monkeypatch: pytest.MonkeyPatch, producer: type[FencedProducer]
) -> None:
    """Another process has the slot, or one that had it woke up and asked for a newer epoch."""
    found = failure(monkeypatch, 10_000, producer)
    assert isinstance(found, RewindError)
    assert found.doubtful
    assert "there is a newer epoch" in str(found)


def test_one_that_took_too_long_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failure(monkeypatch, 0)
    assert isinstance(found, RewindError)
    assert found.doubtful
    assert "lasted longer than 0 s" in str(found)


def test_a_commit_that_took_as_long_as_a_restart_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broker that was killed meanwhile may have left it hanging in some partitions."""
    monkeypatch.setattr(outbox_module, "_BELIEVED_S", -1.0)
    found = failure(monkeypatch, 10_000, LateProducer)
    assert isinstance(found, RewindError)
    assert found.doubtful
    assert "a broker may have restarted" in str(found)


@pytest.mark.parametrize("abandoned", [True, False])
def test_who_has_a_successor_gives_up_nothing(
    monkeypatch: pytest.MonkeyPatch, *, abandoned: bool
) -> None:
    """It might ask for a newer epoch for that, and fence the successor."""
    outbox = outbox_of(monkeypatch, 10_000, AbandonedProducer)
    producer = cast("AbandonedProducer", outbox._producer)
    outbox.ship(Shipment([], {("events", 0): 1}))
    assert producer.entered.wait(TIMEOUT_S)
    if abandoned:
        outbox.abandon()
    producer.let_go.set()
    outbox.close(TIMEOUT_S)
    assert producer.given_up == (not abandoned)


def test_a_record_that_is_too_large_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = failure(monkeypatch, 10_000, SpoiltProducer)
    assert isinstance(found, RewindError)
    assert not found.doubtful
    assert "the record is too large" in str(found)
    assert "erroneous state" not in str(found)
