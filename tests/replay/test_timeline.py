"""The virtual clock, the table of answers, and the comparison: pure, and whatever was fetched."""

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chaos.plan import SCHEMA
from combiner.core import Combiner
from combiner.encoding import Names, ScoreEncoder
from combiner.health import HealthConfig
from combiner.intake import Member
from combiner.join import JoinConfig
from combiner.window import block_of
from replay.ledger import Ledger
from replay.table import AnswerTable
from replay.timeline import Answers, Lane, Memory, Timeline
from streams.columns import Columns
from streams.events import EventDecoder
from streams.frames import PredictionFrame
from streams.instants import NS_PER_MS
from tests.combiner.decision_kit import decider

MODELS = ("a", "b")
MEMBERS = [Member(name, "1", 0.0, 1.0, reserve=False) for name in MODELS]
DECODER = EventDecoder(SCHEMA, ("id",))
DEADLINE_MS = 100
Times = NDArray[np.int64]


# -- lanes -----------------------------------------------------------------------------------


def filled(times: Sequence[int], cuts: Sequence[int]) -> Lane[list[int]]:
    """A lane with records 0, 1, 2 …, put in parts that end at `cuts`."""
    lane: Lane[list[int]] = Lane()
    for start, stop in pairwise([0, *sorted({c for c in cuts if 0 < c < len(times)}), len(times)]):
        lane.put(np.array(times[start:stop]), list(range(start, stop)))
    return lane


def taken(lane: Lane[list[int]], before_ms: int) -> list[int]:
    return [r for part, start, stop in lane.take(before_ms) for r in part[start:stop]]


Stamps = st.lists(st.integers(-5, 300), min_size=1, max_size=30)


@given(Stamps, st.lists(st.integers(0, 30)), st.lists(st.integers(0, 320)))
def test_a_lane_is_the_same_however_it_was_fetched(
    times: list[int], cuts: list[int], looks: list[int]
) -> None:
    whole, parts = filled(times, []), filled(times, cuts)
    assert (whole.known_until_ms, whole.first_ms) == (parts.known_until_ms, parts.first_ms)
    for lane in (whole, parts):
        lane.end()
    for look in sorted(looks):
        assert taken(whole, look) == taken(parts, look)
        assert len(whole) == len(parts)
    everything = 10**9
    assert taken(whole, everything) == taken(parts, everything)


@given(Stamps)
def test_in_a_lane_time_never_goes_back_and_nobody_is_early(times: list[int]) -> None:
    lane = filled(times, [])
    lane.end()
    arrivals: dict[int, int] = {}
    for before in range(302):
        arrivals |= dict.fromkeys(taken(lane, before), before - 1)
    assert list(arrivals) == sorted(arrivals) == list(range(len(times)))
    moments = list(arrivals.values())
    assert moments == sorted(moments)
    for (row, arrival), stamp in zip(arrivals.items(), times, strict=True):
        confirmed = min(stamp, times[row + 1] if row + 1 < len(times) else stamp)
        assert arrival >= max(0, confirmed)


def test_a_clock_gone_wrong_is_not_followed() -> None:
    lane = filled([10, 10_000_000, 12, 13, 5, 14], [])
    assert (taken(lane, 11), taken(lane, 13)) == ([0], [1, 2, 3, 4])
    assert lane.known_until_ms == 12
    # The last one waits for the next to confirm it.
    assert (len(lane), taken(lane, 10**9)) == (1, [])


# -- the whole timeline ----------------------------------------------------------------------


def core(memory: Memory) -> Combiner:
    no_reserves = np.zeros(len(MODELS), dtype=np.bool_)
    return Combiner(
        MEMBERS,
        JoinConfig(len(MODELS), DEADLINE_MS * NS_PER_MS, 10**9, 10**10),
        HealthConfig(10**12, 0.9, 1.0, 10_000, 1),
        decider([1.0, 1.0], memory=memory.recall),  # type: ignore[arg-type]
        ScoreEncoder(Names("e@1", MODELS), no_reserves, explain=False),
        "e@1",
        0,
    )


def events(place: tuple[str, int], first: int, times: Sequence[int]) -> Columns:
    offsets = np.arange(first, first + len(times))
    values: list[bytes | None] = [b'{"id": "%d", "x": 1}' % offset for offset in offsets]
    nothing: list[bytes | None] = [None] * len(times)
    return Columns(place, offsets, np.array(times, dtype=np.int64), nothing, values, [])


def answer(model: str, partition: int, offset: int) -> PredictionFrame:
    score = (offset * 7 + ord(model)) % 100 / 100
    return PredictionFrame(model, "1", "e", partition, np.array([offset]), np.array([score]))


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[dict[int, list[int]], dict[int, list[tuple[int, str, int]]]]:
    """Timestamps of events and (timestamp, model, offset) of answers, by partition."""
    stamps: dict[int, list[int]] = {}
    answers: dict[int, list[tuple[int, str, int]]] = {}
    for partition in range(2):
        times = draw(st.lists(st.integers(0, 40), min_size=1, max_size=8))
        stamps[partition] = np.cumsum(times).tolist()
        answers[partition] = []
        for offset, at in enumerate(stamps[partition]):
            for model in MODELS:
                delay = draw(st.none() | st.integers(0, 2 * DEADLINE_MS))
                if delay is not None:
                    answers[partition].append((at + delay, model, offset))
        answers[partition].sort()
    return stamps, answers


def relive(
    stamps: dict[int, list[int]], answers: dict[int, list[tuple[int, str, int]]], step: int
) -> list[bytes]:
    """Scores in the order in which they leave, fetched `step` records at a time."""
    memory = Memory()
    places = [("p", partition) for partition in answers]
    timeline = Timeline(core(memory), memory, {("e", p): 0 for p in stamps}, places, 10)
    scored: list[bytes] = []
    for start in range(0, 40, step):
        for partition, times in stamps.items():
            if part := times[start : start + step]:
                block = block_of(DECODER, events(("e", partition), start, part))
                timeline.events["e", partition].put(np.array(part), block)
        for partition, found in answers.items():
            if some := found[start : start + step]:
                frames = [[answer(model, partition, offset)] for _, model, offset in some]
                timeline.answers["p", partition].put(
                    np.array([at for at, _, _ in some]),
                    Answers(np.arange(start, start + len(some)), frames),
                )
        for output in timeline.play():
            scored += [value for _, value in output.scored]
    for lane in timeline.lanes:
        lane.end()
    for output in timeline.play():
        scored += [value for _, value in output.scored]
    assert timeline.settled
    return scored


@given(histories(), st.integers(1, 40))
def test_a_timeline_depends_on_the_records_alone(
    history: tuple[dict[int, list[int]], dict[int, list[tuple[int, str, int]]]], step: int
) -> None:
    stamps, answers = history
    scored = relive(stamps, answers, 40)
    assert scored == relive(stamps, answers, step)
    records = {json.loads(value)["source"]: json.loads(value) for value in scored}
    assert len(records) == len(scored) == sum(map(len, stamps.values()))
    for partition, times in stamps.items():
        for offset, at in enumerate(times):
            record = records[f"e/{partition}/{offset}"]
            delays = {m: found - at for found, m, o in answers[partition] if o == offset}
            # Both the event and its answer are seen at the end of their tick.
            for model, delay in delays.items():
                if delay <= DEADLINE_MS - 10:
                    assert model in record["models"], record
                elif delay >= DEADLINE_MS + 10:
                    assert model not in record["models"], record
            assert record["latency_ms"] <= DEADLINE_MS + 10
            assert record["latency_ms"] > 0


# -- the table -------------------------------------------------------------------------------


def test_the_first_answer_holds_and_what_does_not_count_is_left_out() -> None:
    table = AnswerTable(("e", 1), 10, 5, MEMBERS)

    def frame(offsets: list[int], scores: list[float], **change: object) -> PredictionFrame:
        given = {"model": "a", "version": "1", "topic": "e", "partition": 1, "refusals": {}}
        fields = given | change
        return PredictionFrame(
            offsets=np.array(offsets),
            scores=np.array(scores),
            **fields,  # type: ignore[arg-type]
        )

    table.add(1, frame([9, 10, 12, 10, 15], [0.9, 0.1, np.nan, 0.8, 0.7], refusals={2: "no"}))
    table.add(1, frame([10, 11, 12], [0.5, 0.6, 0.7]))
    for change in ({"model": "x"}, {"version": "2"}, {"partition": 2}):
        table.add(1, frame([13], [0.3], **change))
    for change in ({"topic": "other"},):
        table.add(1, frame([13], [0.3], **change))
    assert table.unusable == 3
    assert table.answered[:, 0].tolist() == [True, True, True, False, False]
    [found] = table.frames(np.array([10, 11, 12, 13]), None)
    assert found.offsets.tolist() == [10, 11, 12]
    assert found.scores.tolist() == pytest.approx([0.1, 0.6, np.nan], nan_ok=True)
    assert found.refusals == {2: "no"}
    present = np.zeros((5, 2), dtype=np.bool_)
    present[[1, 3], 0] = True
    [masked] = table.frames(np.array([10, 11, 12, 13]), present)
    assert masked.offsets.tolist() == [11]
    assert table.lacking(np.array([10, 11, 12, 13]), present).tolist() == [1, 0]
    table.put(1, np.array([11, 14]), np.array([0.2, np.nan]), {1: "why"})
    assert table.frames(np.array([14]), None)[0].refusals == {0: "why"}


# -- the comparison --------------------------------------------------------------------------


def scored(source: str, score: float, label: int | str | None = 0, rung: str = "none") -> bytes:
    return json.dumps({"source": source, "score": score, "label": label, "fallback": rung}).encode()


def test_what_agrees_is_counted_and_the_rest_is_told() -> None:
    ledger = Ledger({("e", 0): (10, 14), ("e", 1): (0, 2)})
    ledger.add([scored("e/0/10", 0.5), scored("e/0/11", 0.5), scored("e/1/0", 0.75)])
    ledger.add([scored("e/0/13", 0.1)])
    assert not ledger.complete
    ledger.compare(
        [
            scored("e/0/10", 0.5), scored("e/0/10", 0.9), scored("e/0/11", 0.25, 1, "partial"),
            scored("e/0/12", 0.5), scored("e/0/9", 0.5), scored("f/0/10", 0.5), b"no record",
            scored("e/x/10", 0.5), scored("e/1/0", 0.75),
        ]
    )  # fmt: skip
    assert not ledger.complete
    facts = ledger.finish().facts()
    assert facts == {
        "compared": 3, "same_label": 2 / 3, "same_score": 2 / 3, "same_rung": 2 / 3,
        "largest_difference": 0.25, "mean_difference": 0.25 / 3,
        "other_rungs": {"partial → none": 1}, "only_published": 1, "only_replayed": 1,
        "published_twice": 1,
    }  # fmt: skip
    ledger.compare([scored("e/0/13", 0.1)])
    assert ledger.complete


def test_labels_are_classes_or_none_as_well() -> None:
    ledger = Ledger({("e", 0): (0, 3)})
    ledger.add([scored("e/0/0", 0.5, "red"), scored("e/0/1", 7.0, None), scored("e/0/2", 0.5, "x")])
    ledger.compare(
        [scored("e/0/0", 0.5, "red"), scored("e/0/1", 7.0, None), scored("e/0/2", 0.5, "y")]
    )
    assert ledger.finish().facts()["same_label"] == 2 / 3
