"""The way out for uncertain events while no broker answers: nobody waits, losses are counted."""

from collections.abc import Iterator
from time import monotonic

import numpy as np
import pytest

from combiner.escalations import Escalations
from combiner.window import EventBlock
from streams import signals
from streams.clock import SystemClock
from streams.errors import BrokerError
from streams.metrics import Metrics
from streams.settings import Settings
from tests.fatal import fail_for_good

PLACE = ("events", 0)
ROOM = 20


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def escalations(metrics: Metrics) -> Iterator[Escalations]:
    settings = Settings.model_validate(
        {
            "models": [{"name": name, "external": True} for name in "ab"],
            "kafka": {
                "bootstrap_servers": "127.0.0.1:1",
                "producer": {"queue.buffering.max.messages": ROOM},
            },
            "cascade": {"heavy": ["b"]},
        }
    )
    found = Escalations(settings, metrics, SystemClock())
    yield found
    found.close()


def block(*values: bytes | None) -> EventBlock:
    offsets = np.arange(len(values))
    names = [""] * len(values)
    keys: list[bytes | None] = [None] * len(values)
    return EventBlock(offsets, names, keys, names, offsets, offsets, {}, values=values)


def counts(metrics: Metrics) -> tuple[float, float]:
    """Escalated, lost."""
    escalated = metrics.registry.get_sample_value(signals.ESCALATED.name)
    lost = metrics.registry.get_sample_value(signals.LOST_ESCALATIONS.name)
    assert escalated is not None
    assert lost is not None
    return escalated, lost


def test_what_finds_no_room_is_lost_and_nobody_waits(
    escalations: Escalations, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    began_s = monotonic()
    for _ in range(3):
        escalations.publish([(PLACE, block(*[b"{}"] * ROOM))])
    assert monotonic() - began_s < 5.0
    assert counts(metrics) == (3 * ROOM, 2 * ROOM)
    assert caplog.text.count("without their heavy models") == 1, "said once"


def test_an_event_that_is_too_large_takes_no_other_with_it(
    escalations: Escalations, metrics: Metrics
) -> None:
    escalations.publish([(PLACE, block(b"{}", b"x" * 2_000_000, b"{}"))])
    assert counts(metrics) == (3, 1)
    escalations.publish([(PLACE, block(*[b"{}"] * ROOM))])
    assert counts(metrics) == (3 + ROOM, 1 + 2), "both others are in the queue"


def test_a_client_that_fails_for_good_is_replaced(
    escalations: Escalations, metrics: Metrics
) -> None:
    escalations.publish([(PLACE, block(b"{}", b"{}"))])
    fail_for_good(escalations._producer)
    escalations.publish([(PLACE, block(b"{}"))])
    assert counts(metrics) == (3, 3)
    escalations.publish([(PLACE, block(*[b"{}"] * (ROOM + 1)))])
    assert counts(metrics) == (3 + ROOM + 1, 3 + 1), "the new one takes what it has room for"


def test_so_is_one_that_has_lost_its_brokers(escalations: Escalations, metrics: Metrics) -> None:
    escalations.publish([(PLACE, block(b"{}", b"{}"))])
    escalations._lifeline._on_lost(BrokerError("lost"))
    escalations.publish([(PLACE, block(b"{}"))])
    assert counts(metrics) == (3, 3)
    escalations.publish([(PLACE, block(*[b"{}"] * ROOM))])
    assert counts(metrics) == (3 + ROOM, 3)
