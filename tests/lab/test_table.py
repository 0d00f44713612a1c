"""Tables: what a file says, and that it says the same as its rows do as events."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.table import (
    MAX_VOCABULARY,
    Table,
    encode,
    events,
    infer_schema,
    labels,
    read_table,
    texts,
    write_csv,
)
from streams.errors import DataError
from streams.events import EventDecoder
from streams.features import Feature, FeatureSchema


def csv_table(tmp_path: Path, text: str) -> Table:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode())
    return read_table(path)


def parquet_table(tmp_path: Path, **columns: object) -> Table:
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return read_table(path)


def decoded(table: Table, schema: FeatureSchema) -> np.ndarray:
    """What worker and combiner see of the events made of the rows."""
    values = events(table, schema)
    decoder = EventDecoder(schema)
    result = decoder.decode(values, [None] * len(values), np.zeros(len(values), np.int64), str)
    assert not result.bad
    return result.matrix


MIXED = """id,amount,whole,code,flag,country,note,empty
a-1,1.5,1,007,true,de,NA,
a-2,,2,010,False,,None,
a-3, 3e2 ,3,100,,Ünited,NA,
a-4,NaN,4,,TRUE,"x, ""y"" z",None,
"""


def test_kinds_are_recognised(tmp_path: Path) -> None:
    table = csv_table(tmp_path, MIXED)
    assert table.rows == 4
    assert infer_schema(table, {"id"}).features == (
        Feature("amount", "number", required=False),
        Feature("whole", "number"),
        Feature("code", "category", vocabulary=("007", "010", "100"), required=False),
        Feature("flag", "boolean", required=False),
        Feature("country", "category", vocabulary=("de", 'x, "y" z', "Ünited"), required=False),
    )


def test_rows_are_encoded_in_schema_order(tmp_path: Path) -> None:
    table = csv_table(tmp_path, MIXED)
    nan = np.nan
    np.testing.assert_array_equal(
        encode(table, infer_schema(table, {"id"})),
        [
            [1.5, 1, 0, 1, 0],
            [nan, 2, 1, 0, nan],
            [300, 3, 2, nan, 2],
            [nan, 4, nan, 1, 1],
        ],
    )


def test_rows_become_events_as_a_producer_writes_them(tmp_path: Path) -> None:
    table = csv_table(tmp_path, MIXED)
    schema = infer_schema(table, {"id"})
    found = [json.loads(event) for event in events(table, schema, exclude={"note", "empty"})]
    assert found[0] == {
        "amount": 1.5,
        "whole": 1,
        "code": "007",
        "flag": True,
        "country": "de",
        "id": "a-1",
    }
    assert found[1]["amount"] is None
    assert b'"whole":1,' in events(table, schema)[0]


def test_events_can_be_nested(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "id,x,y,when\n12,1,2,1700000000000\n")
    schema = FeatureSchema((Feature("x", path=("payload", "x")), Feature("y")))
    event = events(table, schema, paths={"id": ("meta", "id"), "when": ("meta", "t")})[0]
    assert json.loads(event) == {
        "payload": {"x": 1},
        "y": 2,
        "meta": {"id": 12, "t": 1_700_000_000_000},
    }
    np.testing.assert_array_equal(decoded(table, schema), encode(table, schema))


def test_large_integers_that_are_no_features_keep_every_digit(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "id,x\n9007199254740993,1\n,2\n")
    found = [json.loads(e)["id"] for e in events(table, FeatureSchema((Feature("x"),)))]
    assert found == [9_007_199_254_740_993, None]
    assert texts(table, "id") == ["9007199254740993", ""]


cells = st.one_of(
    st.just(""),
    st.sampled_from(["true", "False", "NA", "1", "1.0", "2.50", "007", "-3", "1e3", " 7 ", "a"]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=12))
def test_a_csv_row_and_its_event_give_the_same_features(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("property") / "data.csv"
    cells_by_column = [*zip(*rows, strict=True), ["1"] * len(rows)]
    columns = {n: pa.array(c) for n, c in zip("xyz1", cells_by_column, strict=True)}
    write_csv(Table("rows", columns, untyped=True), path)
    table = read_table(path)
    schema = infer_schema(table)
    np.testing.assert_array_equal(encode(table, schema), decoded(table, schema))


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(allow_infinity=False),
            st.none() | st.booleans(),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_parquet_row_and_its_event_give_the_same_features(tmp_path_factory, rows) -> None:
    number, flag, whole, word = zip(*rows, strict=True)
    table = parquet_table(
        tmp_path_factory.mktemp("property"),
        number=pa.array(number, pa.float64()),
        flag=pa.array(flag, pa.bool_()),
        whole=pa.array(whole, pa.int64()),
        word=pa.array(word, pa.string()),
        one=pa.array([1] * len(rows)),
    )
    schema = infer_schema(table)
    np.testing.assert_array_equal(encode(table, schema), decoded(table, schema))


def test_a_category_is_the_same_in_csv_parquet_and_json(tmp_path: Path) -> None:
    schema = FeatureSchema((Feature("c", "category", vocabulary=("1", "2.5", "true")),))
    csv_rows = encode(csv_table(tmp_path, "c\n1\n2.5\ntrue\n"), schema)
    numbers = encode(parquet_table(tmp_path, c=[1.0, 2.5, 1.0]), schema)
    flags = encode(parquet_table(tmp_path, c=[True, True, False]), schema)
    assert csv_rows[:, 0].tolist() == [0, 1, 2]
    assert numbers[:, 0].tolist() == [0, 1, 0]
    assert flags[:2, 0].tolist() == [2, 2]
    assert np.isnan(flags[2, 0])


def test_parquet_keeps_its_own_types(tmp_path: Path) -> None:
    import datetime
    from decimal import Decimal

    table = parquet_table(
        tmp_path,
        digits=["1", "2", " "],
        kind=pa.array(["b", "a", None]).dictionary_encode(),
        price=[Decimal("1.10"), Decimal("2.20"), None],
        small=pa.array([1.5, float("nan"), 2.0], pa.float32()),
        day=[datetime.date(2024, 1, day) for day in (1, 1, 2)],
        nothing=pa.nulls(3),
    )
    kinds = {f.name: (f.kind, f.vocabulary, f.required) for f in infer_schema(table).features}
    assert kinds == {
        "digits": ("category", ("1", "2"), False),
        "kind": ("category", ("a", "b"), False),
        "price": ("number", (), False),
        "small": ("number", (), False),
        "day": ("category", ("2024-01-01", "2024-01-02"), True),
    }


def test_rare_values_count_as_unknown_and_identifiers_are_left_out(tmp_path: Path) -> None:
    common = [f"c{i:03}" for i in range(MAX_VOCABULARY)]
    rare = [f"r{i}" for i in range(50)]
    words = common * 3 + rare
    lines = [f"{word},{row}-x" for row, word in enumerate(words)]
    table = csv_table(tmp_path, "word,name\n" + "\n".join(lines))
    (feature,) = infer_schema(table).features
    assert feature == Feature("word", "category", vocabulary=tuple(common), required=False)


def test_held_out_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    table = csv_table(tmp_path, MIXED)
    for name in ("again.csv", "deep/er/again.csv.gz"):
        write_csv(table.take(np.array([0, 1, 2, 3])), tmp_path / name)
        again = read_table(tmp_path / name)
        assert again.columns == table.columns
    first = (tmp_path / "deep/er/again.csv.gz").read_bytes()
    write_csv(table, tmp_path / "deep/er/again.csv.gz")
    assert (tmp_path / "deep/er/again.csv.gz").read_bytes() == first
    assert gzip.decompress(first) == (tmp_path / "again.csv").read_bytes()


def test_parquet_rows_written_as_csv_mean_the_same_under_the_schema(tmp_path: Path) -> None:
    table = parquet_table(
        tmp_path, x=[1.0, 2.5, None], f=[True, None, False], w=["1", "", "x"], n=[1, 2, 3]
    )
    schema = infer_schema(table)
    write_csv(table, tmp_path / "rows.csv")
    again = read_table(tmp_path / "rows.csv")
    np.testing.assert_array_equal(encode(again, schema), encode(table, schema))
    np.testing.assert_array_equal(decoded(again, schema), encode(table, schema))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "cannot be read as .csv: Empty CSV file"),
        ("a.csv", b"x,y\n", "no rows"),
        ("a.csv", b"x,x\n1,2\n", "two columns are called 'x'"),
        ("a.csv", b"x,\n1,2\n", "a column has no name"),
        ("a.csv", b"x,y\n1\n", "Expected 2 columns, got 1"),
        ("a.csv", b"x,y\n1,\xff\n", "invalid UTF8"),
        ("a.csv.gz", b"x,y\n1,2\n", "cannot be read as .csv.gz"),
        ("a.parquet", b"x,y\n1,2\n", "cannot be read as .parquet"),
        ("a.xlsx", b"", "unknown kind of file; expected .csv, .csv.gz, .parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name, content, message) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert message in str(caught.value)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            read_table(tmp_path / name)
    table = csv_table(tmp_path, "x\n1\n")
    with pytest.raises(DataError, match="cannot be written"):
        write_csv(table, tmp_path / "data.csv" / "x.csv")


def test_a_byte_order_mark_and_line_breaks_in_cells_are_no_problem(tmp_path: Path) -> None:
    table = csv_table(tmp_path, '\ufeffa,b\r\n"x\ny",2\r\n')
    assert texts(table, "a") == ["x\ny"]


def test_nested_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'x' is list"):
        parquet_table(tmp_path, x=[[1], [2]])


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        ("number", ["1", "two"], "does not hold numbers only: .*'two'"),
        ("number", ["1", "1e999"], "holds an infinite number"),
        ("boolean", ["true", "1"], "does not hold booleans only"),
    ],
)
def test_cells_that_are_not_of_the_kind_are_refused(tmp_path, kind, cells, message) -> None:
    table = csv_table(tmp_path, "\n".join(["x", *cells]))
    schema = FeatureSchema((Feature("x", kind),))
    for function in (encode, events):
        with pytest.raises(DataError, match=message):
            function(table, schema)


def test_typed_cells_that_are_not_of_the_kind_are_refused(tmp_path: Path) -> None:
    number, boolean = (FeatureSchema((Feature("x", kind),)) for kind in ("number", "boolean"))
    for values, schema in ((["1"], number), ([True], number), ([1], boolean), ([1.0], boolean)):
        with pytest.raises(DataError, match="does not hold"):
            encode(parquet_table(tmp_path, x=values), schema)


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    table = csv_table(tmp_path, "a,b\n1,2\n")
    with pytest.raises(DataError, match="no column 'c'; there are 'a', 'b'"):
        encode(table, FeatureSchema((Feature("c"),)))
    with pytest.raises(DataError, match="no column 'c'"):
        infer_schema(table, {"c"})
    with pytest.raises(DataError, match="no column is left"):
        infer_schema(table, {"a", "b"})


@pytest.mark.parametrize(
    "values",
    [["0", "1", "1"], ["false", "TRUE", "true"], [False, True, True], [0, 1, 1], [0.0, 1, 1]],
)
def test_labels_of_every_spelling(tmp_path: Path, values) -> None:
    if isinstance(values[0], str):
        table = csv_table(tmp_path, "\n".join(["y", *values]))
    else:
        table = parquet_table(tmp_path, y=values)
    assert labels(table, "y").tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["good", "bad"], "label 'y' holds 'bad', 'good'; expected 0 and 1, or false and true"),
        (["0", "1", "2"], "label 'y' holds '0', '1', '2'"),
        (["0", "1", " "], "label 'y' is missing in 1 rows"),
        (["1", "1"], "label 'y' is always 1"),
        ([" ", " "], "label 'y' is missing in 2 rows"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, cells, message) -> None:
    table = csv_table(tmp_path, "\n".join(["y", *cells]))
    with pytest.raises(DataError) as caught:
        labels(table, "y")
    assert message in str(caught.value)
