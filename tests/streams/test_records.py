"""Records that leave, and what they are made of: field names and headers are a promise."""

import contextlib
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError
from streams.events import BadEvent
from streams.features import Feature, FeatureSchema
from streams.instants import MAX_WALL_MS, MIN_WALL_MS, iso_from_wall_ms, wall_ms_from_iso
from streams.mapping import decoder_of, mapped_schema, path_of
from streams.records import (
    MAX_HEADER_CHARS,
    ControlRecord,
    RecordError,
    ScoredRecord,
    dead_letter_headers,
    decode_control,
    decode_health,
)
from streams.settings import EventSettings
from streams.signals import CATALOGUE


def test_a_scored_record_has_the_promised_names():
    record = ScoredRecord(
        "e1", 0.25, 0, 1.0, "credit@abc", ("a",), {"b": "late"}, "partial", "2023", 3.5, "t/0/7"
    )
    assert json.loads(msgspec.json.encode(record)) == {
        "id": "e1",
        "score": 0.25,
        "label": 0,
        "confidence": 1.0,
        "ensemble": "credit@abc",
        "models": ["a"],
        "missing": {"b": "late"},
        "fallback": "partial",
        "event_time": "2023",
        "latency_ms": 3.5,
        "source": "t/0/7",
    }


def test_a_control_record_with_unknown_fields_is_none():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"model": "m", "paused": true, "weight": 1}', type=ControlRecord)


awkward_values = (
    st.none()
    | st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["model", "paused", "state", "time", "latency_ms"]) | st.text(),
                inner,
            )
        ),
    ).map(lambda found: json.dumps(found).encode())
    | st.sampled_from([1, 100, 1000, 100_000]).map(
        lambda depth: b'{"model": "m", "deep": ' + b"[" * depth
    )
)


@given(awkward_values)
def test_no_bytes_raise_anything_but_a_record_error(value):
    for decode in (decode_health, decode_control):
        with contextlib.suppress(RecordError):
            decode(value)


def test_dead_letter_headers_stand_behind_the_original_ones():
    bad = BadEvent(0, "NotJson", "x" * 1000)
    headers = dead_letter_headers([("traceparent", b"1")], "events", 2, 7, bad, "credit@abc")
    assert headers[0] == ("traceparent", b"1")
    added = dict(headers[1:])
    prefix = "__ensemble.errors."
    assert added[prefix + "topic"] == b"events"
    assert added[prefix + "partition"] == b"2"
    assert added[prefix + "offset"] == b"7"
    assert added[prefix + "stage"] == b"decode"
    assert added[prefix + "exception.class.name"] == b"NotJson"
    assert added[prefix + "exception.message"] == b"x" * MAX_HEADER_CHARS
    assert added[prefix + "ensemble"] == b"credit@abc"


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_instant_has_a_text_that_leads_back_to_it_or_to_the_nearest_that_has(ms):
    text = iso_from_wall_ms(np.array([ms]))[0]
    assert wall_ms_from_iso(text) == min(max(ms, MIN_WALL_MS), MAX_WALL_MS)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.0005Z", 0),
        ("19700101T000001Z", 1000),
    ],
)
def test_iso_texts_of_all_kinds(text, ms):
    assert wall_ms_from_iso(text) == ms


def test_a_text_that_is_no_time():
    with pytest.raises(ValueError, match="Invalid isoformat"):
        wall_ms_from_iso("noon")


@given(st.lists(st.text(min_size=1).filter(lambda key: "\\" not in key), min_size=1))
def test_a_path_leads_back_to_its_keys(keys):
    assert path_of(".".join(key.replace(".", "\\.") for key in keys)) == tuple(keys)


def test_a_mapping_changes_the_path_and_whether_a_feature_is_required():
    schema = FeatureSchema((Feature("a"), Feature("b", required=False), Feature("c")))
    event = EventSettings.model_validate(
        {"id": "meta.id", "features": {"a": {"path": "x.y"}, "b": {"required": True}}}
    )
    assert mapped_schema(schema, event).features == (
        Feature("a", path=("x", "y")),
        Feature("b", required=True),
        Feature("c"),
    )
    value = b'{"x": {"y": 1}, "b": 2, "c": 3, "meta": {"id": "e"}}'
    decoded = decoder_of(schema, event).decode([value], [None], np.zeros(1, np.int64), str)
    assert decoded.matrix.tolist() == [[1, 2, 3]]
    assert decoded.ids == ["e"]


def test_a_mapping_of_no_feature_is_a_mistake():
    event = EventSettings.model_validate({"features": {"z": {"path": "x"}}})
    with pytest.raises(ConfigurationError, match=r"event\.features\.z: no such feature.*a, b"):
        mapped_schema(FeatureSchema((Feature("a"), Feature("b"))), event)


def test_signals_are_named_as_prometheus_wants_them():
    assert len({signal.name for signal in CATALOGUE}) == len(CATALOGUE)
    for signal in CATALOGUE:
        assert signal.name.startswith("ensemble_")
        assert signal.name.endswith("_total") == (signal.kind == "counter")
        assert bool(signal.buckets) == (signal.kind == "histogram")
        assert list(signal.buckets) == sorted(set(signal.buckets))
        assert "id" not in signal.labels
