"""Scored records as they leave: names and meanings of the fields are a promise."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from combiner.encoding import Names, ScoreEncoder
from combiner.settled import Settled
from combiner.window import EventBlock
from streams.frames import UNSTATED_REASON
from streams.instants import WallMs
from streams.records import ScoredRecord, dead_letter_headers
from tests.combiner.decision_kit import (
    FIRST_OFFSET,
    NOW_MS,
    Memory,
    bad_record,
    block,
    decider,
    latest,
    settled,
)

ALWAYS = [
    "id", "score", "label", "confidence", "ensemble", "models", "missing", "fallback",
    "event_time", "latency_ms", "source",
]  # fmt: skip


def encoded(
    rows: Settled,
    events: EventBlock,
    *,
    weights: Sequence[float] = (1.0, 3.0),
    waited_for: Sequence[bool] = (True, True),
    explain: bool = False,
    memory: Memory | None = None,
    now_ms: WallMs = NOW_MS,
    reserves: Sequence[bool] = (False, False),
    cascade: bool = False,
) -> list[bytes]:
    decisions = decider(
        weights, explain=explain, memory=memory, reserves=reserves, cascade=cascade
    ).decide(rows, events.entities, now_ms)
    names = Names("fraud@0123456789ab", ["a", "b"])
    encoder = ScoreEncoder(names, np.array(reserves), explain=explain)
    sources = [f"events/3/{offset}" for offset in events.offsets.tolist()]
    return encoder.encode(sources, rows, events, decisions, np.array(waited_for), now_ms)


def records(*given: Any, **options: Any) -> list[dict[str, Any]]:
    return [msgspec.json.decode(value) for value in encoded(*given, **options)]


def test_a_full_score_field_by_field() -> None:
    (record,) = records(settled(("AA", (0.25, 0.75))), block(1))
    assert record == {
        "id": "e40",
        "score": 0.625,
        "label": 1,
        "confidence": 0.75,
        "ensemble": "fraud@0123456789ab",
        "models": ["a", "b"],
        "missing": {},
        "fallback": "none",
        "event_time": "2023-11-14T22:13:19.950Z",
        "latency_ms": 50.0,
        "source": "events/3/40",
    }
    assert list(record) == ALWAYS


def test_an_explained_score_has_three_fields_more() -> None:
    (record,) = records(settled((".A", (0, 0.6))), block(1), explain=True)
    assert list(record) == [*ALWAYS, "predictions", "contributions", "explanation"]
    assert record["explanation"] == {
        "agreement": 1.0, "dispersion": 0.0, "entropy": 0.970951, "consensus": True,
        "decisive": [],
    }  # fmt: skip
    assert record["predictions"] == {"b": 0.6}
    assert record["contributions"] == {"b": 0.6}


def test_who_was_not_asked_is_said_and_is_nothing_that_is_missing() -> None:
    rows = settled(("A-", (0.25, 0)), ("A.", (0.25, 0)), ("R-", (0, 0)), ("AA", (0.25, 0.75)))
    found = records(rows, block(4), cascade=True, explain=True)
    assert [record.get("not_asked") for record in found] == [["b"], None, ["b"], None]
    assert [record["fallback"] for record in found] == ["none", "partial", "prior", "none"]
    assert [record["missing"] for record in found] == [
        {}, {"b": "late"}, {"a": "refused: no reason given"}, {}
    ]  # fmt: skip
    # Of the weight that was asked: all of it, a quarter, none, and what agrees.
    assert [record["confidence"] for record in found] == [1.0, 0.25, 0.0, 0.75]
    assert found[0]["contributions"] == {"a": 0.25}
    assert found[0]["explanation"]["consensus"]


def test_a_cached_score_has_its_age() -> None:
    memory = Memory({"entity40": latest(0.8, 1, age_ms=1500)})
    (record,) = records(settled(("..", (0, 0))), block(1), memory=memory)
    assert list(record) == [*ALWAYS, "cached_age_ms"]
    assert record["cached_age_ms"] == 1500
    assert (record["fallback"], record["score"], record["models"]) == ("cached", 0.8, [])


def test_a_cached_score_made_this_very_moment_has_the_age_zero() -> None:
    memory = Memory({"entity40": latest(0.8, 1, age_ms=0)})
    (record,) = records(settled(("..", (0, 0))), block(1), memory=memory)
    assert record["cached_age_ms"] == 0


def test_the_prior_says_so_and_names_nobody() -> None:
    (record,) = records(settled(("..", (0, 0))), block(1), explain=True)
    assert (record["fallback"], record["score"], record["confidence"]) == ("prior", 0.1, 0.0)
    assert (record["models"], record["predictions"], record["contributions"]) == ([], {}, {})


def test_the_names_of_the_struct_are_those_on_the_wire() -> None:
    assert list(ScoredRecord.__struct_fields__) == [
        *ALWAYS, "cached_age_ms", "predictions", "contributions", "scores", "explanation",
        "stages", "prediction_set", "interval", "coverage", "not_asked",
    ]  # fmt: skip


def test_whose_absence_would_have_changed_the_label() -> None:
    (record,) = records(settled(("AA", (0.9, 0.4))), block(1), weights=(2.0, 1.0), explain=True)
    assert record["score"] == pytest.approx(2.2 / 3)
    explanation = record["explanation"]
    assert explanation["without"] == {"a": 0.4, "b": 0.9}
    assert explanation["decisive"] == ["a"]
    assert not explanation["consensus"]
    assert explanation["agreement"] == pytest.approx(2 / 3, abs=1e-6)


def test_where_the_latency_went_is_that_of_the_answer_that_came_last() -> None:
    rows, events = settled(("AA", (0.9, 0.4))), block(1)
    sent = float(events.record_ms[0]) + 20
    stamps = [[[3e6, sent, 5, 8], [9e6, sent + 2, 1, 4]]]
    rows = dataclasses.replace(rows, stamps=np.array(stamps))
    decisions = decider((1.0, 1.0)).decide(rows, events.entities, NOW_MS)
    encoder = ScoreEncoder(Names("x@0", ["a", "b"]), np.array([False, False]), explain=False)
    waited_for, source = np.array([True, True]), ["events/3/40"]
    (value,) = encoder.encode(source, rows, events, decisions, waited_for, NOW_MS, 11_000_000)
    stages = msgspec.json.decode(value)["stages"]
    assert stages == {
        "model": "b",
        "to_worker_ms": 17.0,
        "queue_ms": 1.0,
        "model_ms": 4.0,
        "to_combiner_ms": 26.0,
        "combiner_ms": 2.0,
    }
    assert sum(list(stages.values())[1:]) == msgspec.json.decode(value)["latency_ms"]


# -- who is missing --------------------------------------------------------------------------


def test_each_reason_for_absence_has_its_word() -> None:
    rows = settled(
        ("A.", (0.2, 0)), (".A", (0, 0.6)), ("AR", (0.2, 0)), ("RA", (0, 0.6)), ("AA", (0.2, 0.6)),
        reasons={(2, 1): "amount is negative"},
    )  # fmt: skip
    found = records(rows, block(5), waited_for=(False, True))
    assert [record["missing"] for record in found] == [
        {"b": "late"},
        {"a": "failed"},
        {"b": "refused: amount is negative"},
        {"a": f"refused: {UNSTATED_REASON}"},
        {},
    ]
    assert [record["models"] for record in found] == [["a"], ["b"], ["a"], ["b"], ["a", "b"]]


def test_rows_of_one_pattern_have_reasons_of_their_own() -> None:
    rows = settled(
        ("AR", (0.2, 0)), ("AR", (0.2, 0)), ("AR", (0.2, 0)), reasons={(0, 1): "x", (2, 1): "z"}
    )
    assert [record["missing"]["b"] for record in records(rows, block(3))] == [
        "refused: x", f"refused: {UNSTATED_REASON}", "refused: z",
    ]  # fmt: skip


def test_a_reserve_is_named_when_used_and_never_missed() -> None:
    rows = settled((".A", (0, 0.6)), ("A.", (0.2, 0)))
    found = records(rows, block(2), reserves=(False, True))
    assert [record["fallback"] for record in found] == ["reserve", "none"]
    assert [record["models"] for record in found] == [["b"], ["a"]]
    assert [record["missing"] for record in found] == [{"a": "late"}, {}]


# -- bytes and places ------------------------------------------------------------------------


def test_a_bad_event_has_empty_bytes_in_its_place() -> None:
    rows = settled(("AA", (0.2, 0.6)), ("RR", (0, 0)), ("AA", (0.2, 0.6)), bad=[1])
    values = encoded(rows, block(3, bad=[1]))
    assert [bool(value) for value in values] == [True, False, True]
    assert msgspec.json.decode(values[2])["source"] == f"events/3/{FIRST_OFFSET + 2}"


def test_ids_survive_whatever_characters_they_have() -> None:
    events = block(1)
    events.ids[0] = 'Zürich "x" \\ \u2028 \U0001f600'
    (record,) = records(settled(("AA", (0.2, 0.6))), events)
    assert record["id"] == events.ids[0]


@pytest.mark.parametrize("key", [b"\xff\xfe", b"", None, b"plain"])
def test_keys_are_not_looked_into(key: bytes | None) -> None:
    events = block(1, keys=[key])
    assert len(encoded(settled(("AA", (0.2, 0.6))), events)) == 1
    assert events.keys == [key]


def test_a_record_from_the_future_has_a_negative_latency_and_no_error() -> None:
    """Producers' clocks are their own; hiding that would hide the fault."""
    (record,) = records(settled(("AA", (0.2, 0.6))), block(1), now_ms=WallMs(NOW_MS - 1000))
    assert record["latency_ms"] == -950.0


def test_numbers_of_an_explanation_are_rounded_and_the_score_is_not() -> None:
    (record,) = records(settled(("AA", (1 / 3, 2 / 3))), block(1), explain=True)
    assert record["score"] == pytest.approx(7 / 12, abs=1e-15)
    assert record["predictions"] == {"a": 0.333333, "b": 0.666667}


def test_no_events_give_no_records() -> None:
    rows = settled(("AA", (0.2, 0.6)))
    none = slice(0, 0)
    empty = Settled(
        rows.numbers[none], rows.offsets[none], rows.scores[none], rows.states[none],
        rows.seen_ns[none], rows.scoreable[none], {}, rows.hurried[none],
    )  # fmt: skip
    assert encoded(empty, block(0)) == []


def test_a_quorum_did_not_await_those_who_had_time_left() -> None:
    rows = settled(("A.", (0.2, 0.0)), ("A.", (0.2, 0.0)), ("AR", (0.2, 0.0)), hurried=[0, 2])
    found = records(rows, block(3))
    assert [record["missing"] for record in found] == [
        {"b": "not awaited"}, {"b": "late"}, {"b": "refused: no reason given"},
    ]  # fmt: skip


# -- dead letters ----------------------------------------------------------------------------


def test_a_dead_letter_keeps_its_headers_and_says_what_was_wrong_behind_them() -> None:
    record = bad_record(2)
    headers = dead_letter_headers(record.headers, "events", 3, 42, record.why, "fraud@1")
    assert headers == [
        ("trace", b"1"),
        ("__ensemble.errors.topic", b"events"),
        ("__ensemble.errors.partition", b"3"),
        ("__ensemble.errors.offset", b"42"),
        ("__ensemble.errors.stage", b"decode"),
        ("__ensemble.errors.exception.class.name", b"NotJson"),
        ("__ensemble.errors.exception.message", b"it is not"),
        ("__ensemble.errors.ensemble", b"fraud@1"),
    ]
