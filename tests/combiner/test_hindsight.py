"""Late answers in a whole combiner: corrections, regret, and nothing of it twice."""

import msgspec
import pytest

from combiner.output import Output
from streams.records import CorrectionRecord
from tests.combiner.test_core import DEADLINE_MS, EVENTS, World, answered, member


def corrections(outputs: list[Output]) -> list[CorrectionRecord]:
    values = [value for output in outputs for _, value in output.corrections]
    return [msgspec.json.decode(value, type=CorrectionRecord) for value in values]


def with_late(**late: float) -> tuple[World, list[Output]]:
    """`a` says 0.2 in time; the others after the score, one after the other."""
    world = World([member("a"), *(member(name) for name in late)], corrections=True)
    offsets = world.produce(EVENTS, True)
    answered(world, EVENTS, offsets, a=0.2)
    world.read_all()
    assert len(world.wait(DEADLINE_MS)[0].scored) == 1
    answered(world, EVENTS, offsets, **late)
    world.read_all()
    return world, world.advance()


def test_each_late_answer_is_a_revision_of_what_was_there_before_it() -> None:
    world, outputs = with_late(b=0.9, c=0.1)
    first, second = corrections(outputs)
    assert (first.source, first.id, first.ensemble) == ("events/0/0", "e0", "fraud@1")
    assert (first.revision, first.model) == (1, "b")
    assert (first.score_before, first.score_now) == (0.2, pytest.approx(0.55))
    assert (first.label_before, first.label_now, first.would_have_changed) == (0, 1, True)
    assert (second.revision, second.model) == (2, "c")
    assert (second.score_before, second.score_now) == (first.score_now, pytest.approx(0.4))
    assert second.would_have_changed
    assert outputs[0].corrections[0][0] == b"key0"
    assert world.core.regrets() == {
        ("b", True): 1,
        ("b", False): 0,
        ("c", True): 1,
        ("c", False): 0,
    }
    assert world.core.regrets() == {}, "told once"


def test_a_repeat_a_refusal_and_what_nobody_remembers_correct_nothing() -> None:
    world, outputs = with_late(b=0.9)
    assert len(corrections(outputs)) == 1
    answered(world, EVENTS, [0], b=0.1)
    world.predict(EVENTS, "a", {0: 0.7})
    world.read_all()
    assert world.advance() == []
    world = World([member("a"), member("b")], corrections=True)
    offsets = world.produce(EVENTS, True)
    answered(world, EVENTS, offsets, a=0.2)
    world.read_all()
    world.wait(DEADLINE_MS)
    world.predict(EVENTS, "b", {0: float("nan")}, {0: "cannot"})
    world.read_all()
    assert corrections(world.advance()) == []
    assert world.core.regrets() == {}


def test_regret_is_counted_without_the_topic_and_nothing_is_remembered_by_name() -> None:
    world = World([member("a"), member("b")])
    offsets = world.produce(EVENTS, True, True)
    answered(world, EVENTS, offsets, a=0.2)
    world.read_all()
    world.wait(DEADLINE_MS)
    world.predict(EVENTS, "b", {offsets[0]: 0.9, offsets[1]: 0.3})
    world.read_all()
    assert world.advance() == []
    assert world.core.regrets() == {("b", True): 1, ("b", False): 1}


def test_an_answer_that_came_too_late_for_a_score_of_its_own_replaces_the_prior() -> None:
    world = World([member("a"), member("b")], corrections=True)
    offsets = world.produce(EVENTS, True)
    world.read_all()
    [output] = world.wait(DEADLINE_MS)
    assert msgspec.json.decode(output.scored[0][1])["fallback"] == "prior"
    answered(world, EVENTS, offsets, a=0.7)
    world.read_all()
    [correction] = corrections(world.advance())
    assert (correction.score_before, correction.score_now) == (0.1, 0.7)
    assert correction.would_have_changed


def test_too_few_members_are_no_score_in_hindsight_either() -> None:
    world = World([member(name) for name in "abc"], minimum_members=2, corrections=True)
    offsets = world.produce(EVENTS, True)
    world.read_all()
    world.wait(DEADLINE_MS)
    answered(world, EVENTS, offsets, a=0.7, b=0.9)
    world.read_all()
    [correction] = corrections(world.advance())
    assert (correction.revision, correction.model) == (1, "b")
    assert correction.score_now == pytest.approx(0.8)


def test_after_a_crash_nothing_is_corrected_twice() -> None:
    """Corrections leave with the positions: what was not committed is as if it had never been."""
    world, outputs = with_late(b=0.9)
    assert len(corrections(outputs)) == 1
    world.commit()
    world.start()
    world.read_all()
    assert corrections(world.advance() + world.wait(DEADLINE_MS)) == []


def test_many_events_are_looked_at_together() -> None:
    world = World([member("a"), member("b")], corrections=True)
    offsets = world.produce(EVENTS, *[True] * 3000)
    answered(world, EVENTS, offsets, a=0.4)
    world.read_all()
    world.wait(DEADLINE_MS)
    answered(world, EVENTS, offsets, b=0.8)
    world.read_all()
    found = corrections(world.advance())
    assert [c.source for c in found] == [f"events/0/{offset}" for offset in offsets]
    assert {(c.revision, c.would_have_changed) for c in found} == {(1, True)}
