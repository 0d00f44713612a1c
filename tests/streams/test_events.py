"""The decoder: good rows exactly as written, bad ones named, nobody hurt by neighbours."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ConfigurationError
from streams.events import MAX_ID_CHARS, EventDecoder, category_text
from streams.features import Feature, FeatureSchema

SCHEMA = FeatureSchema(
    (
        Feature("amount"),
        Feature("age", required=False),
        Feature("member", kind="boolean", required=False),
        Feature("country", kind="category", vocabulary=("CH", "true", "7"), required=False),
        Feature("deep", path=("payload", "deep"), required=False),
    )
)
DECODER = EventDecoder(SCHEMA, ("id",), ("who", "customer"), ("time",))

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
categories = st.sampled_from(["CH", "US", True, False, 7, 7.0, 8.5, None])
good_events = st.fixed_dictionaries(
    {"amount": numbers, "id": st.text(min_size=1, max_size=20) | st.integers()},
    optional={
        "age": numbers | st.none(),
        "member": st.booleans() | st.none(),
        "country": categories,
        "payload": st.none() | st.fixed_dictionaries({}, optional={"deep": numbers | st.none()}),
        "time": st.integers(0, 4_000_000_000_000),
        "unknown": st.recursive(st.none() | st.text(), st.lists, max_leaves=5),
    },
).map(lambda event: {**event, "who": {"customer": "c"}})

BAD = {
    b"": "NotJson",
    b"\xff\xfe": "NotJson",
    b'{"amount": 1': "NotJson",
    b'{"amount": NaN, "id": "a"}': "NotJson",
    b'{"amount": 1, "id": "a"} {}': "NotJson",
    b"[" * 100_000: "WrongType",
    b'{"amount": 1, "id": "a", "z": ' + b"[" * 100_000: "NotJson",
    b'{"amount": 1, "id": "\\ud800"}': "NotJson",
    b"null": "WrongType",
    b"[]": "WrongType",
    b"7": "WrongType",
    b'{"amount": "1", "id": "a"}': "WrongType",
    b'{"amount": true, "id": "a"}': "WrongType",
    b'{"amount": 1e400, "id": "a"}': "WrongType",
    b'{"amount": ' + b"9" * 400 + b', "id": "a"}': "WrongType",
    b'{"amount": ' + b"9" * 9000 + b', "id": "a"}': "WrongType",
    b'{"amount": 1, "member": 1, "id": "a"}': "WrongType",
    b'{"amount": 1, "payload": 3, "id": "a"}': "WrongType",
    b'{"amount": 1, "id": true}': "WrongType",
    b'{"id": "a", "who": {"customer": "c"}}': "MissingFeature",
    b'{"amount": null, "id": "a", "who": {"customer": "c"}}': "MissingFeature",
    b'{"amount": 1, "who": {"customer": "c"}}': "NoId",
    b'{"amount": 1, "id": "", "who": {"customer": "c"}}': "NoId",
    b'{"amount": 1, "id": "a", "who": null}': "NoId",
    b'{"amount": 1, "id": "' + b"x" * 1025 + b'", "who": {"customer": "c"}}': "NoId",
    b'{"amount": 1, "id": "a", "who": {"customer": "c"}, "time": "noon"}': "BadTime",
    b'{"amount": 1, "id": "a", "who": {"customer": "c"}, "time": 1e300}': "BadTime",
    b'{"amount": 1, "id": "a", "who": {"customer": "c"}, "time": 1e17}': "BadTime",
    None: "Tombstone",
}


def decode(values, decoder=DECODER, keys=None):
    record_ms = np.arange(len(values), dtype=np.int64)
    return decoder.decode(
        values, keys or [None] * len(values), record_ms, lambda position: f"default-{position}"
    )


def expected_row(event):
    """What the matrix must hold, from the plain Python event."""

    def number(value):
        return math.nan if value is None else float(value)

    country = event.get("country")
    code = math.nan
    if country is not None and category_text(country) in {"CH", "true", "7"}:
        code = float(("CH", "true", "7").index(category_text(country)))
    payload = event.get("payload") or {}
    return [
        number(event["amount"]),
        number(event.get("age")),
        number(event.get("member")),
        code,
        number(payload.get("deep")),
    ]


@given(st.lists(good_events | st.sampled_from(list(BAD)), max_size=12))
def test_good_rows_are_exact_and_bad_ones_are_named_whatever_stands_beside_them(events):
    values = [json.dumps(event).encode() if isinstance(event, dict) else event for event in events]
    decoded = decode(values)
    good = [place for place, event in enumerate(events) if isinstance(event, dict)]
    assert decoded.positions.tolist() == good
    assert decoded.matrix.shape == (len(good), len(SCHEMA))
    expected = np.array([expected_row(events[place]) for place in good]).reshape(-1, len(SCHEMA))
    assert np.array_equal(decoded.matrix, expected, equal_nan=True)
    assert decoded.ids == [str(events[place]["id"]) for place in good]
    assert decoded.time_ms.tolist() == [events[place].get("time", place) for place in good]
    named = {bad.position: bad.error for bad in decoded.bad}
    bad = {place: BAD[event] for place, event in enumerate(events) if place not in set(good)}
    assert named == bad
    assert [entry.position for entry in decoded.bad] == sorted(bad)


ALL_REQUIRED = FeatureSchema(
    (
        Feature("amount"),
        Feature("member", kind="boolean"),
        Feature("country", kind="category", vocabulary=("CH",)),
        Feature("deep", path=("payload", "deep")),
    )
)
awkward = st.fixed_dictionaries(
    {"id": st.text(max_size=3) | st.integers()},
    optional={
        "amount": numbers | st.none() | st.booleans() | st.just(10**400),
        "member": st.booleans() | st.none() | st.integers(0, 1),
        "country": categories,
        "payload": st.none() | st.fixed_dictionaries({}, optional={"deep": numbers | st.none()}),
        "who": st.just({"customer": "c"}) | st.just({}),
    },
)


@pytest.mark.parametrize("schema", [SCHEMA, ALL_REQUIRED])
@given(events=st.lists(good_events | awkward | st.sampled_from(list(BAD)), max_size=6))
def test_whoever_wants_no_features_agrees_about_everything_else(schema, events):
    values = [json.dumps(event).encode() if isinstance(event, dict) else event for event in events]
    paths = (("id",), ("who", "customer"), ("time",))
    full = decode(values, EventDecoder(schema, *paths))
    slim = decode(values, EventDecoder(schema, *paths, features=False))
    assert slim.matrix.shape == (len(full.positions), 0)
    assert slim.positions.tolist() == full.positions.tolist()
    assert (slim.ids, slim.entities, slim.bad) == (full.ids, full.entities, full.bad)
    assert slim.time_ms.tolist() == full.time_ms.tolist()


def test_a_numeric_feature_that_is_the_id_too_keeps_its_spelling_without_features():
    decoder = EventDecoder(SCHEMA, ("amount",), features=False)
    assert decode([b'{"amount": 7}'], decoder).ids == ["7"]


@given(st.lists(good_events | st.sampled_from([v for v in BAD if b"payload" not in (v or b"")])))
def test_features_of_one_level_are_decoded_as_those_within_others_are(events):
    flat = EventDecoder(FeatureSchema(SCHEMA.features[:4]), ("id",), ("who", "customer"), ("time",))
    values = [e if e is None or isinstance(e, bytes) else json.dumps(e).encode() for e in events]
    found, wanted = decode(values, flat), decode(values)
    np.testing.assert_array_equal(found.positions, wanted.positions)
    np.testing.assert_array_equal(found.matrix, wanted.matrix[:, :4])
    np.testing.assert_array_equal(found.time_ms, wanted.time_ms)
    assert (found.ids, found.entities) == (wanted.ids, wanted.entities)
    assert [(b.position, b.error) for b in found.bad] == [(b.position, b.error) for b in wanted.bad]


@given(st.binary(max_size=60))
def test_no_bytes_at_all_make_it_raise(value):
    decoded = decode([value, b'{"amount": 2, "id": 1, "who": {"customer": 1}}'])
    assert decoded.positions.tolist()[-1] == 1
    assert decoded.ids[-1] == "1"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"amount": "1", "id": "a"}', "Expected `int | float`, got `str` - at `$.amount`"),
        (b"[]", "Expected `object`, got `array`"),
        (None, "the value is null; expected a JSON object"),
        (b'{"id": "a", "who": {"customer": "c"}}', "missing or null: amount"),
        (b'{"amount": 1, "id": "a"}', "entity `who.customer` is missing or empty"),
        (b'{"amount": ' + b"9" * 400 + b', "id": "a"}', "number out of range: amount"),
    ],
)
def test_the_reason_says_what_and_where(value, reason):
    assert decode([value]).bad[0].reason == reason


def test_nothing_is_decoded_to_nothing():
    decoded = decode([])
    assert decoded.matrix.shape == (0, len(SCHEMA))
    assert decoded.bad == []


def test_without_paths_the_record_itself_names_the_event():
    plain = EventDecoder(FeatureSchema((Feature("x"),)))
    values = [b'{"x": 1}', b"broken", b'{"x": 3}', b'{"x": 4}']
    decoded = decode(values, plain, [b"anna", b"b", None, b"\xff"])
    assert decoded.ids == ["default-0", "default-2", "default-3"]
    assert decoded.entities == ["anna", "default-2", "\\xff"]
    assert decoded.time_ms.tolist() == [0, 2, 3]


def test_a_long_key_is_cut_to_the_length_of_an_entity():
    plain = EventDecoder(FeatureSchema((Feature("x"),)))
    assert len(decode([b'{"x": 1}'], plain, [b"k" * 5000]).entities[0]) == MAX_ID_CHARS


def test_a_field_may_be_feature_and_id_at_once():
    decoder = EventDecoder(FeatureSchema((Feature("x"),)), ("x",))
    decoded = decode([b'{"x": 12}'], decoder)
    assert decoded.ids == ["12"]
    assert decoded.matrix.tolist() == [[12.0]]


def test_keys_need_not_be_identifiers():
    names = ("default.payment.next.month", "größe", "class", "", "a b", "_x")
    decoder = EventDecoder(FeatureSchema(tuple(Feature(name) for name in names)))
    value = json.dumps(dict(zip(names, range(6), strict=True))).encode()
    assert decode([value], decoder).matrix.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_iso_times_are_read():
    value = b'{"amount": 1, "id": 1, "who": {"customer": 1}, "time": "2023-11-14T22:13:20.123Z"}'
    assert decode([value]).time_ms.tolist() == [1_700_000_000_123]


@pytest.mark.parametrize("name", ['we"ird', "back\\slash", "new\nline"])
def test_keys_that_cannot_be_looked_for_are_refused_at_once(name):
    with pytest.raises(ConfigurationError, match="quote, a backslash or a control character"):
        EventDecoder(FeatureSchema((Feature(name),)))


def test_a_value_cannot_be_an_object_too():
    with pytest.raises(ConfigurationError, match="`a` is wanted as a value and as an object"):
        EventDecoder(FeatureSchema((Feature("a"), Feature("b", path=("a", "b")))))
