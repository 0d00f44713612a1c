"""Corrections on a real broker: one for each late answer, and none again after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chaos.reader import places_of, reading, wait_for
from streams.embedded import EmbeddedKafka
from streams.frames import PredictionFrame
from tests.combiner.live_kit import Live
from tests.conftest import Topics


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def answer(live: Live, model: str, count: int, score: float) -> None:
    """One model's answer to the first events of partition 0."""
    frame = PredictionFrame(
        *(model, "1", live.events, 0, np.arange(count), np.full(count, score)),
    )
    live.send_frame(frame)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_late_answers_are_corrected_once(live: Live, topics: Topics, delivery: str) -> None:
    corrections = topics("corrections", 4)
    settings = live.settings(
        topics={"corrections": corrections},
        combiner={"delivery": delivery, "deadline_ms": 300},
    )
    process = live.start(settings)
    reader = live.reader()
    process.await_said("owns")
    for number in range(50):
        live.send({"id": f"e{number}", "x": 1.0}, 0, key=b"k%d" % number)
    live.flush()
    answer(live, "a", 50, 0.2)
    live.flush()
    live.await_outcomes(reader)
    answer(live, "b", 50, 0.9)
    answer(live, "b", 50, 0.9)
    live.flush()
    consumer = reading(live.servers)
    consumer.assign(places_of([corrections], 4))
    found = []

    def read() -> bool:
        found.extend(message for message in consumer.consume(100, 0.05) if not message.error())
        return len(found) >= 50

    wait_for(read, lambda: f"{len(found)} corrections\n{process.said()}")
    process.stop()
    process = live.start(settings)
    process.await_said("owns")
    live.send({"id": "last", "x": 1.0}, 0)
    answer(live, "b", 50, 0.9)
    live.flush()
    live.await_outcomes(reader)
    assert not [m for m in consumer.consume(100, 0.5) if not m.error()], "none twice"
    consumer.close()
    records = [json.loads(message.value()) for message in found]
    assert [record["id"] for record in records] == [f"e{number}" for number in range(50)]
    assert [message.key() for message in found] == [b"k%d" % number for number in range(50)]
    assert {message.partition() for message in found} == {0}
    for number, record in enumerate(records):
        assert record["source"] == f"{live.events}/0/{number}"
        assert (record["revision"], record["model"]) == (1, "b")
        assert (record["score_before"], record["score_now"]) == (0.2, pytest.approx(0.55))
        assert record["would_have_changed"]
