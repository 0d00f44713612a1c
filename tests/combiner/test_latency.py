"""The stages of a latency: they add up, and only what crosses clocks can be negative."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner.latency import STAGES, stages

INSTANTS = st.floats(0, 1e6)
SPANS = st.floats(0, 1e5)


def one(*values: float) -> dict[str, float]:
    found = stages(*(np.array([value]) for value in values))
    assert found.shape == (1, len(STAGES))
    return dict(zip(STAGES, found[0].tolist(), strict=True))


def test_an_ordinary_event() -> None:
    assert one(1000, 1020, 5, 8, 1026, 1030) == {
        "to_worker_ms": 7,
        "queue_ms": 5,
        "model_ms": 8,
        "to_combiner_ms": 6,
        "combiner_ms": 4,
    }


def test_the_queue_of_a_frame_is_that_of_its_oldest_event() -> None:
    found = one(1000, 1010, 50, 8, 1011, 1012)
    assert (found["to_worker_ms"], found["queue_ms"], found["model_ms"]) == (0, 2, 8)


def test_a_worker_that_says_nothing_of_its_time() -> None:
    assert one(1000, 1020, 0, 0, 1026, 1030)["to_worker_ms"] == 20


@given(st.tuples(INSTANTS, INSTANTS, SPANS, SPANS, INSTANTS, INSTANTS))
def test_they_add_up_whatever_the_clocks_say(values: tuple[float, ...]) -> None:
    found = one(*values)
    assert sum(found.values()) == pytest.approx(values[5] - values[0], abs=1e-6)
    assert found["queue_ms"] >= 0
    assert found["model_ms"] >= 0


@given(INSTANTS, SPANS, SPANS, SPANS, SPANS, SPANS)
def test_with_one_clock_nothing_is_negative_and_nothing_is_invented(
    event: float, way: float, queue: float, model: float, back: float, wait: float
) -> None:
    sent = event + way + queue + model
    found = one(event, sent, queue, model, sent + back, sent + back + wait)
    expected = (way, queue, model, back, wait)
    for name, value in zip(STAGES, expected, strict=True):
        assert found[name] == pytest.approx(value, abs=1e-6)
