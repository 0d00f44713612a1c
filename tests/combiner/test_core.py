"""A whole combiner driven by hand: logs in lists, a clock that is a number, crashes on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from combiner.ahead import MOST_BYTES, decode
from combiner.cascade import Cascade
from combiner.core import Combiner
from combiner.encoding import Names, ScoreEncoder
from combiner.fallback import RUNGS
from combiner.health import HealthConfig
from combiner.intake import Member
from combiner.limits import JoinConfig
from combiner.output import Output, Place
from combiner.quorum import Quorum, ShareQuorum
from combiner.window import FAR_AHEAD, EventBlock
from streams.columns import Position
from streams.frames import PredictionFrame
from streams.instants import NS_PER_MS, WallMs
from streams.records import Fallback
from tests.combiner.decision_kit import NOW_MS, Memory, bad_record, decider

EVENTS: Place = ("events", 0)
EVENTS_1: Place = ("events", 1)
OTHER: Place = ("other", 0)

DEADLINE_MS, STALL_MS, LIMIT_MS = 100, 300, 5000
START_NS = 10**12


@dataclass
class Committed:
    """What the transactions so far have made visible, and where a restart goes on."""

    scored: list[dict[str, Any]] = field(default_factory=list)
    dead: list[tuple[Place, int]] = field(default_factory=list)
    order: list[tuple[Place, int]] = field(default_factory=list)
    inputs: dict[Place, Position] = field(default_factory=dict)
    predictions: dict[int, int] = field(default_factory=dict)


class World:
    """Topics, a clock, a cache and one combiner at a time.

    An event is (offset, whether it is good); a predictions record is a frame, or None for bytes
    that are none. Offsets of `predictions` are places in the list.
    """

    def __init__(
        self,
        members: Sequence[Member] | None = None,
        places: Sequence[Place] = (EVENTS,),
        rungs: Sequence[Fallback] = ("partial", "reserve", "cached"),
        minimum_members: int = 1,
        *,
        in_order: bool = True,
        ahead_bytes: int = MOST_BYTES,
        quorum: Quorum | None = None,
        corrections: bool = False,
        cascade: Cascade | None = None,
    ) -> None:
        self.corrections, self.cascade = corrections, cascade
        self.members = list(members or [member("a"), member("b")])
        self.in_order, self.ahead_bytes, self.quorum = in_order, ahead_bytes, quorum
        self.rungs, self.minimum_members = rungs, minimum_members
        self.now_ns, self.now_ms = START_NS, NOW_MS
        self.memory = Memory()
        self.events: dict[Place, list[tuple[int, bool]]] = {place: [] for place in places}
        self.frames: dict[int, list[PredictionFrame | None]] = {p: [] for _, p in places}
        self.committed = Committed()
        self.start()

    # -- the combiner's life -----------------------------------------------------------------

    def start(self) -> None:
        """A fresh combiner that goes on from what was committed."""
        reserves = [one.reserve for one in self.members]
        names = [one.name for one in self.members]
        self.core = Combiner(
            self.members,
            JoinConfig(
                len(self.members), DEADLINE_MS * NS_PER_MS, STALL_MS * NS_PER_MS,
                LIMIT_MS * NS_PER_MS, self.in_order, self.ahead_bytes, self.quorum,
                cascade=self.cascade,
            ),
            HealthConfig(2000 * NS_PER_MS, 0.2, 0.5, 5, 3),
            decider(
                [1.0] * len(names), reserves=reserves, rungs=self.rungs,
                minimum_members=self.minimum_members, memory=self.memory,
                cascade=self.cascade is not None,
            ),
            ScoreEncoder(Names("fraud@1", names), np.array(reserves), explain=False),
            "fraud@1",
            self.now_ns,
            corrections=self.corrections,
        )  # fmt: skip
        self.uncommitted: list[Output] = []
        self.shipped = (dict(self.committed.inputs), dict(self.committed.predictions))
        positions = {p: self.committed.inputs.get(p, Position(0)) for p in self.events}
        self.next_event = {place: position.offset for place, position in positions.items()}
        self.next_frame = {p: self.committed.predictions.get(p, 0) for p in self.frames}
        for place, log in self.events.items():
            self.core.open(place, log[-1][0] + 1 if log else 0)
            assert len(positions[place].metadata) <= self.ahead_bytes
            self.core.skip(place, decode(*positions[place]))

    def commit(self) -> None:
        """One transaction: all that was shipped, with its positions."""
        for output in self.uncommitted:
            self.committed.scored += [msgspec.json.decode(value) for _, value in output.scored]
            self.committed.dead += [(output.place, offset) for offset, _ in output.dead]
            self.committed.order += sources(output)
        self.uncommitted = []
        # A partition that is not named keeps the position it had.
        inputs, predictions = self.shipped
        self.committed.inputs |= inputs
        self.committed.predictions |= predictions

    # -- what others write -------------------------------------------------------------------

    def produce(self, place: Place, *good: bool, gap: int = 0) -> list[int]:
        log = self.events[place]
        offsets = []
        for number, yes in enumerate(good):
            before = log[-1][0] + 1 if log else 0
            offsets.append(before + (gap if number == 0 else 0))
            log.append((offsets[-1], yes))
        return offsets

    def predict(
        self,
        place: Place,
        model: str,
        scores: dict[int, float],
        refusals: dict[int, str] | None = None,
        version: str = "v1",
    ) -> None:
        offsets = np.array(list(scores), dtype=np.int64)
        values = np.array(list(scores.values()), dtype=np.float64)
        self.frames[place[1]].append(
            PredictionFrame(model, version, *place, offsets, values, refusals or {})
        )

    # -- what the combiner's shell does ------------------------------------------------------

    def read_events(self, place: Place, limit: int = 10**9) -> None:
        log = [event for event in self.events[place] if event[0] >= self.next_event[place]]
        if log := log[:limit]:
            self.core.add_events(place, self._block(log), self.now_ns)
            self.next_event[place] = log[-1][0] + 1

    def _block(self, log: list[tuple[int, bool]]) -> EventBlock:
        offsets = np.array([offset for offset, _ in log])
        times = np.full(len(log), self.now_ms - 20)
        bad = {place: bad_record(place) for place, (_, good) in enumerate(log) if not good}
        ids = [f"e{offset}" if good else "" for offset, good in log]
        keys: list[bytes | None] = [f"key{offset}".encode() for offset, _ in log]
        entities = [f"entity{offset % 3}" if good else "" for offset, good in log]
        values = [f"event {offset}".encode() for offset, _ in log]
        return EventBlock(offsets, ids, keys, entities, times, times, bad, values=values)

    def read_frames(self, partition: int, limit: int = 10**9) -> None:
        first = self.next_frame[partition]
        log = self.frames[partition][first : first + limit]
        frames = [(first + i, frame) for i, frame in enumerate(log) if frame is not None]
        self.core.add_frames(partition, frames, self.now_ns)
        if log:
            self.core.skip_frames(partition, first + len(log))
        self.next_frame[partition] = first + len(log)

    def read_all(self) -> None:
        for place in self.events:
            self.read_events(place)
        for partition in self.frames:
            self.read_frames(partition)

    def advance(self) -> list[Output]:
        outputs = self.core.advance(self.now_ns, self.now_ms)
        if outputs:
            self.uncommitted += outputs
            self.ship()
            for output in outputs:
                self.memory.known.update(output.latest)
        wake_ns = self.core.next_wake_ns()
        assert wake_ns is None or wake_ns > self.now_ns, "would be woken again at once"
        return outputs

    def ship(self) -> None:
        """Note where a restart would go on once all that has left is committed."""
        self.shipped = (
            dict(self.core.input_positions()), dict(self.core.prediction_positions())
        )  # fmt: skip

    def wait(self, ms: float) -> list[Output]:
        """Time passes, and the combiner is called whenever it said so."""
        end_ns = self.now_ns + round(ms * NS_PER_MS)
        outputs: list[Output] = []
        while self.now_ns < end_ns:
            wake_ns = self.core.next_wake_ns()
            target_ns = min(end_ns, wake_ns if wake_ns is not None else end_ns)
            self.now_ms = WallMs(self.now_ms + (target_ns - self.now_ns) // NS_PER_MS)
            self.now_ns = target_ns
            outputs += self.advance()
        return outputs

    def settle(self) -> list[dict[str, Any]]:
        """Read all, advance, and the scores that leave at this moment."""
        self.read_all()
        return scores(self.advance())


def member(
    name: str,
    version: str = "v1",
    minimum: float | None = 0.0,
    maximum: float | None = 1.0,
    *,
    reserve: bool = False,
) -> Member:
    return Member(name, version, minimum, maximum, reserve)


def scores(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(value) for output in outputs for _, value in output.scored]


def sources(output: Output) -> list[tuple[Place, int]]:
    """Place and offset of all that left with an output, in input order."""
    scored = [int(record["source"].rpartition("/")[2]) for record in scores([output])]
    return [(output.place, offset) for offset in sorted(scored + [o for o, _ in output.dead])]


def answered(world: World, place: Place, offsets: Sequence[int], **by_model: float) -> None:
    for model, score in by_model.items():
        world.predict(place, model, dict.fromkeys(offsets, score))


def test_what_piled_up_leaves_in_handfuls_and_positions_follow() -> None:
    elsewhere = ("events", 1)
    world = World(places=[EVENTS, elsewhere])
    for place in (EVENTS, elsewhere):
        answered(world, place, world.produce(place, True, True, True), a=0.2, b=0.6)
    world.read_all()
    handfuls = []
    for _ in range(4):
        outputs = world.core.advance(world.now_ns, world.now_ms, limit=2)
        offsets = {place: at.offset for place, at in world.core.input_positions().items()}
        handfuls.append((sum(map(len, outputs)), offsets[EVENTS], offsets[elsewhere]))
    assert handfuls == [(2, 2, 0), (2, 3, 1), (2, 3, 3), (0, 3, 3)]


# -- rungs -----------------------------------------------------------------------------------


def test_a_full_score_leaves_at_once_with_its_key() -> None:
    world = World()
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.2, b=0.6)
    world.read_all()
    (output,) = world.advance()
    assert output.place == EVENTS
    assert output.scored[0][0] == b"key0"
    (record,) = scores([output])
    assert record["score"] == pytest.approx(0.4)
    assert (record["fallback"], record["models"]) == ("none", ["a", "b"])
    assert output.fallbacks.tolist() == [1, 0, 0, 0, 0]
    assert output.missed.tolist() == [0, 0]
    assert output.latency_ms.tolist() == [20.0]
    assert output.waited_ms.tolist() == [0.0]
    assert output.latest[0][0] == "entity0"
    assert output.latest[0][1].score == record["score"]


def test_a_partial_score_leaves_at_the_deadline() -> None:
    world = World()
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.2)
    assert world.settle() == []
    assert world.wait(DEADLINE_MS - 1) == []
    (output,) = world.wait(1)
    (record,) = scores([output])
    assert (record["fallback"], record["missing"]) == ("partial", {"b": "late"})
    assert record["latency_ms"] == 20.0 + DEADLINE_MS
    assert output.waited_ms.tolist() == [DEADLINE_MS]
    assert output.missed.tolist() == [0, 1]


def test_a_refusal_is_not_waited_for() -> None:
    world = World()
    world.produce(EVENTS, True)
    world.predict(EVENTS, "a", {0: 0.2})
    world.predict(EVENTS, "b", {0: np.nan}, {0: "amount is negative"})
    (record,) = world.settle()
    assert record["missing"] == {"b": "refused: amount is negative"}


@pytest.mark.parametrize("again", ["a", "b", "ab"])
def test_of_records_that_models_share_the_first_answer_holds(again: str) -> None:
    """Also where the first record holds refusals, and is not joined at once."""
    world = World()
    world.produce(EVENTS, True)
    world.predict(EVENTS, "a", {0: 0.9})
    world.predict(EVENTS, "b", {0: np.nan}, {0: "too young"})
    world.predict(EVENTS, "a", {0: 0.1})
    world.predict(EVENTS, "b", {0: 0.1})
    world.read_events(EVENTS)
    first, second = world.frames[0][:2], [f for f in world.frames[0][2:] if f.model in again]
    world.core.add_frames(0, [(0, f) for f in first] + [(1, f) for f in second], world.now_ns)
    (record,) = scores(world.advance())
    assert (record["score"], record["missing"]) == (0.9, {"b": "refused: too young"})


def test_a_reserve_stands_in_and_is_not_waited_for() -> None:
    world = World([member("a"), member("r", reserve=True)])
    answered(world, EVENTS, world.produce(EVENTS, True), r=0.3)
    assert world.settle() == [], "the member may still come"
    (record,) = scores(world.wait(DEADLINE_MS))
    assert (record["fallback"], record["score"], record["models"]) == ("reserve", 0.3, ["r"])
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.9)
    (record,) = world.settle()
    assert (record["fallback"], record["models"], record["missing"]) == ("none", ["a"], {})


def test_without_answers_the_last_score_of_the_entity_and_then_the_prior() -> None:
    world = World()
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.8, b=0.8)
    world.settle()
    world.produce(EVENTS, True, True, True)  # entities 1, 2 and 0
    world.read_all()
    outputs = world.wait(DEADLINE_MS)
    found = scores(outputs)
    assert [record["fallback"] for record in found] == ["prior", "prior", "cached"]
    assert found[2]["score"] == pytest.approx(0.8)
    assert found[2]["cached_age_ms"] == DEADLINE_MS
    assert outputs[0].latest == [], "what came from the cache is no news to it"
    assert np.sum([output.fallbacks for output in outputs], axis=0).tolist() == [0, 0, 0, 1, 2]


def test_of_one_entity_in_one_batch_the_last_event_is_remembered() -> None:
    world = World()
    offsets = world.produce(EVENTS, *[True] * 6)  # entities 0 1 2 0 1 2
    for model in ("a", "b"):
        world.predict(EVENTS, model, {offset: offset / 10 for offset in offsets})
    world.read_all()
    (output,) = world.advance()
    assert {entity: latest.event_id for entity, latest in output.latest} == {
        "entity0": "e3", "entity1": "e4", "entity2": "e5",
    }  # fmt: skip


def test_bad_events_leave_as_dead_letters_in_their_turn() -> None:
    world = World()
    world.produce(EVENTS, False, True, False)
    world.read_all()
    (output,) = world.advance()
    assert [offset for offset, _ in output.dead] == [0]
    assert output.scored == []
    answered(world, EVENTS, [1], a=0.5, b=0.5)
    world.read_all()
    (output,) = world.advance()
    assert sources(output) == [(EVENTS, 1), (EVENTS, 2)]
    assert len(output) == 2
    assert output.dead[0][1].value == b"?"
    assert len(output.latest) == 1
    assert output.fallbacks.sum() == 1


# -- health ----------------------------------------------------------------------------------


def states(world: World) -> dict[str, str]:
    return {report.model: report.state for report in world.core.report()}


def test_a_failed_model_is_not_waited_for_and_comes_back_by_its_answers() -> None:
    world = World()
    for _ in range(5):
        answered(world, EVENTS, world.produce(EVENTS, True), a=0.5)
        world.settle()
        (record,) = scores(world.wait(DEADLINE_MS))
        assert record["missing"] == {"b": "late"}
    world.wait(DEADLINE_MS)
    assert states(world) == {"a": "HEALTHY", "b": "FAILED"}

    answered(world, EVENTS, world.produce(EVENTS, True), a=0.5)
    (record,) = world.settle()
    assert record["missing"] == {"b": "failed"}, "the event leaves at once"
    answered(world, EVENTS, [5], b=0.5)
    world.read_all()
    world.wait(2 * DEADLINE_MS)
    assert states(world)["b"] == "PROBING", "too late for the score, in time for the verdict"

    for _ in range(3):
        answered(world, EVENTS, world.produce(EVENTS, True), b=0.5, a=0.5)
        (record,) = world.settle()
        assert record["fallback"] == "none", "an answer in time counts although unasked"
        world.wait(2 * DEADLINE_MS)
    assert states(world)["b"] == "HEALTHY"
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.5)
    assert world.settle() == [], "waited for again"


def test_waiting_events_are_let_go_when_the_model_they_wait_for_has_failed() -> None:
    """Verdicts come within a fifth of a deadline, and pending rows hear of them."""
    world = World()
    answered(world, EVENTS, world.produce(EVENTS, *[True] * 5), a=0.5)
    world.read_all()
    world.wait(DEADLINE_MS / 2)
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.5)
    assert world.settle() == []
    found = scores(world.wait(DEADLINE_MS * 0.7 + 1))
    assert [record["missing"]["b"] for record in found[-1:]] == ["failed"]
    assert world.core.pending(EVENTS) == 0
    assert states(world)["b"] == "FAILED"


def world_with_a_failed_model() -> World:
    """`b` has missed five events."""
    world = World()
    for _ in range(5):
        answered(world, EVENTS, world.produce(EVENTS, True), a=0.5)
        world.settle()
        world.wait(DEADLINE_MS)
    world.wait(DEADLINE_MS)
    assert states(world)["b"] == "FAILED"
    return world


def test_a_failed_model_is_back_before_the_deadline_of_its_answers_has_passed() -> None:
    world = world_with_a_failed_model()
    for _ in range(4):
        answered(world, EVENTS, world.produce(EVENTS, True), b=0.5, a=0.5)
        world.settle()
    assert states(world)["b"] == "HEALTHY"
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.5)
    assert world.settle() == [], "waited for again"


def test_where_all_have_failed_the_first_that_answers_is_waited_for() -> None:
    world = World()
    for _ in range(5):
        world.produce(EVENTS, True)
        world.settle()
        world.wait(DEADLINE_MS)
    assert set(states(world).values()) == {"FAILED"}
    (offset,) = world.produce(EVENTS, True)
    (record,) = world.settle()
    assert record["models"] == [], "nobody is left to wait for"
    answered(world, EVENTS, [offset], a=0.5)
    world.settle()
    assert states(world) == {"a": "PROBING", "b": "FAILED"}

    (offset,) = world.produce(EVENTS, True)
    assert world.settle() == []
    answered(world, EVENTS, [offset], a=0.5)
    (record,) = world.settle()
    assert (record["models"], record["missing"]) == (["a"], {"b": "failed"})


def test_models_that_are_judged_anew_are_waited_for_at_once() -> None:
    world = world_with_a_failed_model()
    world.core.judge_anew(world.now_ns)
    assert states(world)["b"] == "HEALTHY"
    (offset,) = world.produce(EVENTS, True)
    answered(world, EVENTS, [offset], a=0.5)
    assert world.settle() == []
    answered(world, EVENTS, [offset], b=0.5)
    (record,) = world.settle()
    assert record["models"] == ["a", "b"]


def test_rows_that_are_open_hear_that_models_are_judged_anew() -> None:
    world = world_with_a_failed_model()
    (offset,) = world.produce(EVENTS, True)
    world.read_all()
    world.core.judge_anew(world.now_ns)
    answered(world, EVENTS, [offset], a=0.5)
    assert world.settle() == []


def test_a_model_that_is_always_a_little_late_fails() -> None:
    world = World()
    due: list[tuple[int, int]] = []
    found: list[dict[str, Any]] = []
    for turn in range(600):
        (offset,) = world.produce(EVENTS, True)
        answered(world, EVENTS, [offset], a=0.5)
        due.append((turn + DEADLINE_MS + 5, offset))
        while due[0][0] <= turn:
            answered(world, EVENTS, [due.pop(0)[1]], b=0.5)
        world.read_all()
        found += scores(world.wait(1))
    assert {tuple(record["models"]) for record in found} == {("a",)}
    assert states(world)["b"] == "FAILED"


def test_a_report_counts_what_happened_since_the_last_one() -> None:
    world = World()
    world.produce(EVENTS, True, True, True)
    answered(world, EVENTS, [0, 1, 2], a=0.5)
    world.predict(EVENTS, "b", {0: 0.5, 1: np.nan})
    world.read_events(EVENTS)
    world.now_ns += 10 * NS_PER_MS
    world.read_frames(0)
    world.wait(2 * DEADLINE_MS)
    answered(world, EVENTS, [2], b=0.5)
    world.read_all()
    a, b = world.core.report()
    assert (a.tally.answered, a.tally.refused, a.tally.missed) == (3, 0, 0)
    assert (b.tally.answered, b.tally.refused, b.tally.missed, b.tally.late) == (1, 1, 1, 1)
    assert (a.tally.filled, a.tally.latency_ns) == (3, 30 * NS_PER_MS)
    assert b.tally.filled == 3
    a, b = world.core.report()
    assert (a.tally.answered, b.tally.late) == (0, 0)


# -- frames that cannot be used --------------------------------------------------------------


def frame(model: str, version: str, partition: int, columns: int) -> PredictionFrame:
    values = np.full((1, columns), 0.5) if columns > 1 else np.array([0.5])
    return PredictionFrame(model, version, "events", partition, np.array([0]), values)


@pytest.mark.parametrize(
    ("unfit", "problem"),
    [
        (frame("z", "v1", 0, 1), "unknown model"),
        (frame("a", "v2", 0, 1), "other version"),
        (frame("a", "v1", 1, 1), "wrong partition"),
        (frame("a", "v1", 0, 2), "several columns"),
    ],
)
def test_a_frame_that_fits_nowhere_is_counted_and_left_out(
    unfit: PredictionFrame, problem: str
) -> None:
    world = World()
    world.produce(EVENTS, True)
    world.frames[0].append(unfit)
    world.read_all()
    assert world.core.bad_frames == {problem: 1}
    assert world.core.early(0) == 0
    assert world.core.prediction_positions() == {0: 1}


def test_a_model_without_a_version_may_answer_as_any() -> None:
    world = World([member("a", version="")])
    world.produce(EVENTS, True)
    world.predict(EVENTS, "a", {0: 0.5}, version="whatever")
    assert len(world.settle()) == 1


def test_frames_for_a_topic_that_is_not_read_here_change_nothing() -> None:
    world = World()
    world.predict(("elsewhere", 0), "a", {0: 0.5})
    world.read_all()
    assert world.core.early(0) == 0
    assert not world.core.bad_frames


@pytest.mark.parametrize("wrong", [-0.001, 1.001, np.inf, -np.inf])
def test_an_answer_outside_its_range_is_a_refusal(wrong: float) -> None:
    world = World()
    world.produce(EVENTS, True, True)
    answered(world, EVENTS, [0, 1], a=0.5)
    world.predict(EVENTS, "b", {0: wrong, 1: 0.5})
    first, second = world.settle()
    assert first["missing"] == {"b": f"refused: {wrong} outside [0.0, 1.0]"}
    assert second["missing"] == {}
    assert world.frames[0][1] is not None
    assert world.frames[0][1].scores[0] == wrong, "the frame belongs to whoever read it"


def test_without_a_range_only_infinity_is_refused() -> None:
    world = World([member("a", minimum=None, maximum=None)])
    world.produce(EVENTS, True, True)
    world.predict(EVENTS, "a", {0: -40.0, 1: np.inf})
    world.read_all()
    assert [record["fallback"] for record in world.settle()] == ["none", "prior"]


def test_several_frames_of_a_model_in_one_fetch_are_as_good_as_one() -> None:
    world = World([member("a")])
    world.produce(EVENTS, True, True, True, True)
    world.predict(EVENTS, "a", {0: 0.1})
    world.predict(EVENTS, "a", {3: np.nan, 1: 0.2}, {0: "three"})
    world.predict(EVENTS, "a", {2: np.nan, 0: 0.9}, {0: "two"})
    found = world.settle()
    assert [record["score"] for record in found] == [0.1, 0.2, 0.1, 0.1]
    assert [record["missing"] for record in found] == [
        {}, {}, {"a": "refused: two"}, {"a": "refused: three"},
    ]  # fmt: skip


# -- partitions and topics -------------------------------------------------------------------


def test_topics_that_share_a_partition_number_do_not_share_events() -> None:
    world = World(places=(EVENTS, EVENTS_1, OTHER))
    for place in world.events:
        world.produce(place, True)
    answered(world, EVENTS, [0], a=0.1, b=0.1)
    answered(world, OTHER, [0], a=0.2)
    answered(world, EVENTS_1, [0], b=0.3)
    (record,) = world.settle()
    assert (record["source"], record["score"]) == ("events/0/0", 0.1)
    later = {record["source"]: record for record in scores(world.wait(DEADLINE_MS))}
    assert later["other/0/0"]["score"] == 0.2
    assert later["events/1/0"]["score"] == 0.3
    assert later["other/0/0"]["missing"] == {"b": "late"}


def test_answers_for_events_that_cannot_exist_are_counted_and_hold_nothing_back() -> None:
    world = World(places=(EVENTS,))
    world.produce(EVENTS, True)
    answered(world, EVENTS, [FAR_AHEAD + 1], a=0.5)
    answered(world, EVENTS, [0], a=0.1, b=0.1)
    assert len(world.settle()) == 1
    assert world.core.bad_frames == {"no such event": 1}
    assert world.core.prediction_positions() == {0: 3}


def test_the_position_in_predictions_is_the_lowest_that_any_topic_needs() -> None:
    world = World(places=(EVENTS, OTHER))
    world.produce(OTHER, True)
    world.produce(EVENTS, True)
    answered(world, OTHER, [0], a=0.1)  # record 0
    answered(world, EVENTS, [0], a=0.1, b=0.1)  # records 1 and 2
    assert len(world.settle()) == 1
    assert world.core.input_positions() == {EVENTS: Position(1), OTHER: Position(0)}
    assert world.core.prediction_positions() == {0: 0}
    world.wait(DEADLINE_MS)
    assert world.core.prediction_positions() == {0: 3}


def test_a_closed_partition_is_forgotten_and_can_be_opened_again() -> None:
    world = World(places=(EVENTS, OTHER))
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.1)
    world.read_all()
    world.core.close(EVENTS)
    assert world.core.places == [OTHER]
    assert world.core.next_wake_ns() is None
    assert world.core.prediction_positions() == {0: 1}, "the other topic has read so far"
    world.core.close(OTHER)
    assert world.core.prediction_positions() == {}
    world.core.close(OTHER)
    world.core.open(EVENTS, 1)
    world.next_event[EVENTS] = world.next_frame[0] = 0
    world.read_events(EVENTS)
    world.read_frames(0)
    assert world.core.pending(EVENTS) == 1
    assert world.core.prediction_positions() == {0: 0}


def test_after_an_outage_the_backlog_waits_for_full_scores() -> None:
    world = World()
    offsets = world.produce(EVENTS, *[True] * 8)
    world.start()
    assert world.settle() == []
    for offset in offsets:
        world.wait(STALL_MS - 1)
        answered(world, EVENTS, [offset], a=0.5, b=0.5)
        (record,) = world.settle()
        assert record["fallback"] == "none"


def test_reading_that_fell_behind_makes_backlog() -> None:
    world = World()
    world.core.set_backlog(EVENTS, 1)
    world.core.set_backlog(EVENTS, 0)  # never lowers it
    world.produce(EVENTS, True)
    world.read_all()
    assert world.wait(STALL_MS - 1) == []
    assert len(world.wait(1)) == 1


# -- quorum ----------------------------------------------------------------------------------


def test_a_quorum_does_not_await_the_others_and_judges_them_at_the_deadline() -> None:
    members = [member("a"), member("b"), member("c")]
    quorum = ShareQuorum(np.ones(3), 2 / 3, np.ones(3, dtype=np.bool_), 1)
    world = World(members, quorum=quorum)
    in_time, never = world.produce(EVENTS, True, True)
    answered(world, EVENTS, [in_time, never], a=0.2, b=0.6)
    first, second = world.settle()
    assert (first["models"], first["missing"]) == (["a", "b"], {"c": "not awaited"})
    assert first["fallback"] == second["fallback"] == "partial"
    world.wait(DEADLINE_MS / 2)
    answered(world, EVENTS, [in_time], c=0.5)
    assert world.settle() == []
    assert [report.tally.late for report in world.core.report()] == [0, 0, 0]
    world.wait(DEADLINE_MS)
    tallies = [report.tally for report in world.core.report()]
    assert [(tally.answered, tally.missed) for tally in tallies] == [(2, 0), (2, 0), (1, 1)]
    answered(world, EVENTS, [never], c=0.5)
    assert world.settle() == []
    assert world.core.report()[2].tally.late == 1


def test_backlog_that_left_for_its_quorum_says_nothing_about_the_others() -> None:
    members = [member("a"), member("b"), member("c")]
    quorum = ShareQuorum(np.ones(3), 2 / 3, np.ones(3, dtype=np.bool_), 1)
    world = World(members, quorum=quorum)
    offsets = world.produce(EVENTS, True, True)
    world.start()
    answered(world, EVENTS, offsets, a=0.2, b=0.6)
    assert [record["missing"] for record in world.settle()] == [{"c": "not awaited"}] * 2
    world.wait(LIMIT_MS)
    tallies = [report.tally for report in world.core.report()]
    assert [(tally.answered, tally.missed) for tally in tallies] == [(2, 0), (2, 0), (0, 0)]


def test_what_was_not_awaited_is_not_counted_as_missed() -> None:
    quorum = ShareQuorum(np.array([2.0, 1.0]), 0.6, np.ones(2, dtype=np.bool_), 1)
    world = World(quorum=quorum)
    answered(world, EVENTS, world.produce(EVENTS, True), a=0.2)
    world.read_all()
    (output,) = world.advance()
    assert output.missed.tolist() == [0, 0]
    world.produce(EVENTS, True)
    world.read_all()
    (output,) = world.wait(DEADLINE_MS)
    assert output.missed.tolist() == [1, 1]


# -- crashes ---------------------------------------------------------------------------------

MODELS = ("a", "b")
PLACES = (EVENTS, OTHER, EVENTS_1)
places = st.sampled_from(PLACES)
steps = st.one_of(
    st.tuples(
        st.just("produce"),
        places,
        st.lists(st.sampled_from([True, True, True, False]), min_size=1, max_size=5),
        st.sampled_from([0, 0, 2]),
    ),
    st.tuples(
        st.just("predict"), places, st.sampled_from(MODELS), st.integers(0, 12), st.integers(1, 6)
    ),
    st.tuples(st.just("rubbish"), st.integers(0, 1)),
    st.tuples(st.just("read events"), places, st.integers(1, 6)),
    st.tuples(st.just("read frames"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.sampled_from([0, 5, 40, DEADLINE_MS, STALL_MS])),
    st.tuples(st.just("commit")),
    st.tuples(st.just("crash")),
)


def take(world: World, step: tuple[Any, ...]) -> None:
    match step:
        case ("produce", place, good, gap):
            world.produce(place, *good, gap=gap)
        case ("predict", place, model, back, count):
            # A worker answers good events, in order or again, whatever the combiner has read.
            known = [offset for offset, good in world.events[place] if good]
            start = max(0, len(known) - back)
            if chosen := known[start : start + count]:
                refused = {0: "no"} if chosen[0] % 4 == 3 else {}
                given = {o: np.nan if refused and o == chosen[0] else 0.5 for o in chosen}
                world.predict(place, model, given, refused)
        case ("rubbish", partition):
            world.frames[partition].append(None)
        case ("read events", place, limit):
            world.read_events(place, limit)
        case ("read frames", partition, limit):
            world.read_frames(partition, limit)
        case ("wait", ms):
            world.wait(ms)
        case ("commit",):
            world.commit()
        case ("crash",):
            world.start()
    world.advance()


def cells_in_log(world: World, place: Place, offset: int) -> set[str]:
    """The models whose answer or refusal for an event is in the log."""
    return {
        frame.model
        for frame in world.frames[place[1]]
        if frame is not None and frame.topic == place[0] and offset in frame.offsets.tolist()
    }


def check(
    history: list[tuple[Any, ...]],
    world_class: type[World] = World,
    *,
    in_order: bool = True,
    ahead_bytes: int = MOST_BYTES,
) -> None:
    world = world_class(places=PLACES, in_order=in_order, ahead_bytes=ahead_bytes)
    for step in history:
        take(world, step)
    world.start()
    before = len(world.committed.scored)
    world.read_all()
    world.advance()
    world.wait(LIMIT_MS + 1)
    world.commit()
    for place, log in world.events.items():
        left = [offset for at, offset in world.committed.order if at == place]
        assert (left if in_order else sorted(left)) == [offset for offset, _ in log]
        dead = sorted(offset for at, offset in world.committed.dead if at == place)
        assert dead == [offset for offset, good in log if not good]
    # The last combiner had everything before it when it scored what had not left before.
    for record in world.committed.scored[before:]:
        topic, partition, offset = record["source"].split("/")
        there = cells_in_log(world, (topic, int(partition)), int(offset))
        refused = {m for m, why in record["missing"].items() if why.startswith("refused")}
        assert set(record["models"]) | refused == there


@settings(max_examples=300, derandomize=True)
@given(st.lists(steps, min_size=10, max_size=80))
def test_after_any_crashes_each_event_has_left_once_in_order_and_no_answer_is_lost(
    history: list[tuple[Any, ...]],
) -> None:
    check(history)


@settings(max_examples=300, derandomize=True)
@given(
    st.lists(steps, min_size=10, max_size=80),
    # Room for one run of offsets ahead, for two, and for all of them.
    st.sampled_from([11, 13, MOST_BYTES]),
)
def test_after_any_crashes_each_event_has_left_once_when_ready(
    history: list[tuple[Any, ...]], ahead_bytes: int
) -> None:
    check(history, in_order=False, ahead_bytes=ahead_bytes)


class SkipsPredictions(World):
    """Goes on behind the last record read, whatever is still needed."""

    def ship(self) -> None:
        super().ship()
        self.shipped = (self.shipped[0], dict(self.next_frame))


class SkipsEvents(World):
    """Goes on behind the last event read, though it has not left."""

    def ship(self) -> None:
        super().ship()
        inputs = {place: Position(offset) for place, offset in self.next_event.items()}
        self.shipped = (inputs, self.shipped[1])


class CommitsOffsetsAlone(World):
    """Says nothing of what left ahead."""

    def ship(self) -> None:
        super().ship()
        inputs = {place: Position(offset) for place, (offset, _) in self.shipped[0].items()}
        self.shipped = (inputs, self.shipped[1])


class CommitsOutputsAlone(World):
    """Positions do not go with what they stand for."""

    def commit(self) -> None:
        before = dict(self.committed.inputs)
        super().commit()
        self.committed.inputs = before


@pytest.mark.parametrize(
    ("broken", "in_order"),
    [
        (SkipsPredictions, True),
        (SkipsEvents, True),
        (CommitsOutputsAlone, True),
        (CommitsOffsetsAlone, False),
    ],
)
def test_a_restart_from_wrong_positions_is_caught(broken: type[World], in_order: bool) -> None:
    def caught(history: list[tuple[Any, ...]]) -> bool:
        try:
            check(history, broken, in_order=in_order)
        except AssertionError:
            return True
        return False

    budget = settings(max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    find(st.lists(steps, min_size=10, max_size=80), caught, settings=budget)


def test_the_rungs_are_counted_in_their_order() -> None:
    world = World(rungs=())
    world.produce(EVENTS, True)
    world.read_all()
    (output,) = world.wait(DEADLINE_MS)
    assert output.fallbacks.tolist() == [rung == "prior" for rung in RUNGS]
