"""A whole combiner with a cascade: what is put out, what is missing, who is judged."""

import pytest

from streams.instants import NS_PER_MS
from tests.combiner.join_kit import QuarterIsUncertain
from tests.combiner.test_core import DEADLINE_MS, EVENTS, EVENTS_1, World, answered, member, scores

CERTAIN, UNCERTAIN = 0.75, 0.25


def cascade(**options: bool) -> World:
    """The models a and b, of which b is heavy."""
    return World(places=(EVENTS, EVENTS_1), cascade=QuarterIsUncertain([False, True]), **options)


def put_out(world: World) -> list[tuple[tuple[str, int], list[int], list[bytes | None]]]:
    found = []
    for place, block in world.core.escalated:
        assert block.values is not None
        found.append((place, block.offsets.tolist(), list(block.values)))
    return found


def test_uncertain_events_are_put_out_whole_once() -> None:
    world = cascade()
    world.produce(EVENTS, True, False, True, True)
    world.produce(EVENTS_1, True)
    answered(world, EVENTS, [0, 3], a=UNCERTAIN)
    answered(world, EVENTS, [2], a=CERTAIN)
    answered(world, EVENTS_1, [0], a=UNCERTAIN)
    assert world.settle() == []
    assert put_out(world) == [
        (EVENTS, [0, 3], [b"event 0", b"event 3"]), (EVENTS_1, [0], [b"event 0"])
    ]  # fmt: skip
    assert world.advance() == []
    assert put_out(world) == []


def test_what_was_not_asked_is_no_fallback_and_not_missed() -> None:
    world = cascade()
    world.produce(EVENTS, True, True)
    answered(world, EVENTS, [0], a=CERTAIN)
    answered(world, EVENTS, [1], a=UNCERTAIN)
    world.read_all()
    (first,) = world.advance()
    assert (first.missed.tolist(), first.fallbacks.tolist()) == ([0, 0], [1, 0, 0, 0, 0])
    (second,) = world.wait(DEADLINE_MS)
    assert (second.missed.tolist(), second.fallbacks.tolist()) == ([0, 1], [0, 1, 0, 0, 0])
    (certain,), (uncertain,) = scores([first]), scores([second])
    assert (certain["not_asked"], certain["missing"]) == (["b"], {})
    assert ("not_asked" in uncertain, uncertain["missing"]) == (False, {"b": "late"})
    assert certain["confidence"] == 1.0


def without_the_heavy_one(world: World, count: int, cheap: float) -> None:
    for _ in range(count):
        offsets = world.produce(EVENTS, True)
        answered(world, EVENTS, offsets, a=cheap)
        world.settle()
        world.wait(DEADLINE_MS)


def test_it_fails_over_events_that_it_was_asked_about_alone() -> None:
    world = cascade()
    without_the_heavy_one(world, 20, CERTAIN)
    assert [report.state for report in world.core.report()] == ["HEALTHY", "HEALTHY"]
    without_the_heavy_one(world, 6, UNCERTAIN)
    assert [report.state for report in world.core.report()] == ["HEALTHY", "FAILED"]
    # Nobody waits for it, and it is asked all the same, which brings it back.
    for _ in range(3):
        offsets = world.produce(EVENTS, True)
        answered(world, EVENTS, offsets, a=UNCERTAIN)
        (record,) = world.settle()
        assert record["missing"] == {"b": "failed"}
        assert [found[1] for found in put_out(world)] == [offsets]
        answered(world, EVENTS, offsets, b=0.5)
        world.read_all()
        world.wait(DEADLINE_MS)
    assert [report.state for report in world.core.report()] == ["HEALTHY", "HEALTHY"]


def test_after_a_restart_the_question_comes_again_and_the_answer_counts_once() -> None:
    world = cascade()
    world.produce(EVENTS, True)
    answered(world, EVENTS, [0], a=UNCERTAIN)
    world.settle()
    before = put_out(world)
    world.start()
    assert world.settle() == []
    assert put_out(world) == before
    answered(world, EVENTS, [0], b=0.5)
    answered(world, EVENTS, [0], b=0.9)
    (record,) = world.settle()
    assert record["score"] == pytest.approx((UNCERTAIN + 0.5) / 2)
    assert record["fallback"] == "none"


def test_the_deadline_before_the_question_leaves_what_there_is() -> None:
    world = World(
        [member("a"), member("b"), member("c")], cascade=QuarterIsUncertain([False, False, True])
    )
    world.produce(EVENTS, True)
    answered(world, EVENTS, [0], a=UNCERTAIN)
    world.settle()
    world.now_ns += 1 * NS_PER_MS
    (record,) = scores(world.wait(DEADLINE_MS))
    assert (record["fallback"], record["missing"]) == ("partial", {"b": "late"})
    assert record["not_asked"] == ["c"]
    assert put_out(world) == []
