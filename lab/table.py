"""Tables from files: CSV (gzip too) and Parquet, their feature schema, and rows as events.

A model meets its features twice: at training as columns of a file, live as fields of JSON events.
Both ways must give the same matrix, so everything here follows `streams.events`: `encode` makes
from a table exactly what `EventDecoder` makes from `events` of the same table.

A CSV file says nothing about types, so its cells stay text until somebody knows better: the
schema if there is one, else a guess from all the values of a column.
"""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.errors import DataError
from streams.events import category_text
from streams.features import Feature, FeatureSchema, Kind

# A one-hot column for each value: beyond this the rare ones have too few rows to learn from, and
# count as unknown.
MAX_VOCABULARY = 200
# What other tools write into a column of numbers where there is none.
_NO_NUMBER = pa.array(["NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", "None"])
# Up to here a float64 holds every integer, and an event may spell it as one.
_MAX_EXACT_INTEGER = 2.0**53
# Numerals like 007 are codes: as numbers they would lose their zeros.
_CODE = r"^\s*[+-]?0[0-9]"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one file: text where it is CSV (`untyped`), the file's own types in Parquet."""

    source: str
    columns: dict[str, Any]
    untyped: bool

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> Any:
        """The column of that name. Raises DataError with the names there are."""
        if name not in self.columns:
            raise DataError(f"{self.source}: no column {name!r}; there are {_some(self.columns)}")
        return self.columns[name]

    def take(self, rows: NDArray[np.int64]) -> "Table":
        """Some of the rows, in the given order."""
        taken = {name: column.take(pa.array(rows)) for name, column in self.columns.items()}
        return Table(self.source, taken, self.untyped)


def read_table(path: Path) -> Table:
    """Read `.csv`, `.csv.gz` or `.parquet`.

    Raises:
        DataError: no such file, no table, no rows, or columns without distinct names.
    """
    readers = {".csv": _read_csv, ".csv.gz": _read_csv, ".parquet": _read_parquet}
    ending = next((e for e in readers if path.name.lower().endswith(e)), None)
    if ending is None:
        raise DataError(f"{path}: unknown kind of file; expected {', '.join(readers)}")
    try:
        data = readers[ending](path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError, EOFError) as error:
        problem = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as {ending}: {problem}") from error
    names = data.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}")
    if not names or "" in names:
        raise DataError(f"{path}: a column has no name; expected a header line")
    if not data.num_rows:
        raise DataError(f"{path}: no rows")
    columns = {name: _simple(path, name, data.column(name)) for name in names}
    return Table(str(path), columns, untyped=ending != ".parquet")


def write_csv(table: Table, path: Path) -> None:
    """Write all columns; gzip if the name ends in `.gz`. The same table gives the same bytes."""
    text = io.StringIO(newline="")
    # Lines end as RFC 4180 says; with a bare line feed a carriage return in a cell is not quoted.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(table.columns)
    cells = [_texts(column).to_pylist() for column in table.columns.values()]
    writer.writerows(zip(*cells, strict=True))
    data = text.getvalue().encode()
    if path.name.lower().endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def infer_schema(table: Table, exclude: Collection[str] = ()) -> FeatureSchema:
    """The features of a table: every column that is not excluded and that says something.

    Numbers and booleans are recognised, all other text is a category. What is missing somewhere is
    not required. Left out are columns without any value, and text that hardly ever comes twice.

    Raises:
        DataError: an excluded column does not exist, or nothing is left.
    """
    for name in exclude:
        table.column(name)
    found = [_feature(table, name) for name in table.columns if name not in exclude]
    features = tuple(feature for feature in found if feature is not None)
    if not features:
        raise DataError(f"{table.source}: no column is left to be a feature")
    return FeatureSchema(features)


def encode(table: Table, schema: FeatureSchema) -> NDArray[np.float64]:
    """The float64[N, F] matrix of the schema's features; NaN is missing.

    Raises:
        DataError: a column is absent or holds what its kind does not allow.
    """
    matrix = np.empty((table.rows, len(schema)))
    for i, feature in enumerate(schema.features):
        values = _as_kind(table, feature.name, feature.kind)
        if feature.kind == "category":
            matrix[:, i] = _codes(values, feature.vocabulary)
        else:
            matrix[:, i] = _floats(values.cast(pa.float64()))
    return matrix


def labels(table: Table, name: str) -> NDArray[np.int64]:
    """int64[N], 0 or 1, from a column of 0 and 1 or of false and true.

    Raises:
        DataError: the column is absent, has gaps, other values, or one value only.
    """
    expected = "expected 0 and 1, or false and true"
    values = typed(table, name)
    distinct = [category_text(value) for value in values.drop_null().unique().to_pylist()]
    if not set(distinct) <= {"0", "1"} and not set(distinct) <= {"false", "true"}:
        raise DataError(
            f"{table.source}: label {name!r} holds {_some(sorted(distinct))}; {expected}"
        )
    if values.null_count:
        raise DataError(f"{table.source}: label {name!r} is missing in {values.null_count} rows")
    if len(distinct) < 2:
        raise DataError(f"{table.source}: label {name!r} is always {distinct[0]}; {expected}")
    return _floats(values.cast(pa.float64())).astype(np.int64)


def typed(table: Table, name: str) -> Any:
    """A column as the numbers, booleans or text that it holds. Raises DataError if it is absent."""
    column = table.column(name)
    return _guess(column)[1] if table.untyped else column


def texts(table: Table, name: str) -> list[str]:
    """A column as N texts, spelled as `EventDecoder` spells ids; a missing one is empty."""
    found: list[str | None] = _texts(table.column(name)).to_pylist()
    return [text or "" for text in found]


def events(
    table: Table,
    schema: FeatureSchema,
    *,
    exclude: Collection[str] = (),
    paths: Mapping[str, Sequence[str]] | None = None,
) -> list[bytes]:
    """Each row as a JSON event, as a producer would write it.

    Args:
        table: the rows.
        schema: says how the features are spelled, and where in the event they are.
        exclude: columns to leave out (the label, usually).
        paths: where other columns are in the event; by default under their own name.

    Raises:
        DataError: a feature's column is absent or holds what its kind does not allow.
    """
    features = {feature.name: feature for feature in schema.features}
    places: list[tuple[str, ...]] = []
    columns: list[list[Any]] = []
    for name in {**features, **table.columns}:
        if name in exclude:
            continue
        if name in features:
            kind, place = features[name].kind, features[name].keys
            columns.append(_json_values(_as_kind(table, name, kind)))
        else:
            place = tuple((paths or {}).get(name, (name,)))
            column = table.column(name)
            columns.append(_json_values(_guess(column)[1] if table.untyped else column))
        places.append(place)
    encode_json = msgspec.json.Encoder().encode
    rows = zip(*columns, strict=True)
    if all(len(place) == 1 for place in places):
        names = [place[0] for place in places]
        return [encode_json(dict(zip(names, row, strict=True))) for row in rows]
    return [encode_json(_nested(places, row)) for row in rows]


def _nested(places: list[tuple[str, ...]], row: tuple[Any, ...]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for (*parents, last), value in zip(places, row, strict=True):
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return root


def _read_csv(path: Path) -> Any:
    import pyarrow.csv

    with pyarrow.csv.open_csv(path) as head:
        names = head.schema.names
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path).read()


def _simple(path: Path, name: str, chunks: Any) -> Any:
    """One array of booleans, numbers or text, without NaN and blank text: those are missing."""
    column = pa.concat_arrays(chunks.chunks) if chunks.num_chunks else pa.array([], chunks.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    type_ = column.type
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_):
        return column
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        column = column.cast(pa.float64())
        return pc.if_else(pc.is_nan(column), None, column)
    if pa.types.is_nested(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        raise DataError(f"{path}: column {name!r} is {type_}; expected numbers, booleans or text")
    column = column.cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column)


def _guess(column: Any) -> tuple[Kind, Any]:
    """What a column of a CSV file is, and its values as that: int64, float64, booleans or text."""
    trimmed = pc.utf8_trim_whitespace(column)
    lower = pc.utf8_lower(trimmed)
    if not column.drop_null():
        return "number", column.cast(pa.float64())
    if _are_booleans(lower):
        return "boolean", pc.equal(lower, "true")
    if pc.any(pc.match_substring_regex(trimmed, _CODE)).as_py():
        return "category", column
    for type_ in (pa.int64(), pa.float64()):
        try:
            return "number", _numbers(trimmed, type_)
        except pa.ArrowInvalid:
            continue
    return "category", column


def _as_kind(table: Table, name: str, kind: Kind) -> Any:
    """A column as float64, booleans or text, as the schema wants it."""
    column = table.column(name)
    if kind == "category":
        return _texts(column)
    text = pa.types.is_string(column.type)
    boolean = pa.types.is_boolean(column.type)
    trimmed = pc.utf8_trim_whitespace(column) if text else column
    problem = f"{table.source}: column {name!r} does not hold {kind}s only"
    if kind == "boolean" and boolean:
        return column
    if kind == "boolean" and text and _are_booleans(pc.utf8_lower(trimmed)):
        return pc.equal(pc.utf8_lower(trimmed), "true")
    if kind == "boolean" or boolean or (text and not table.untyped and column.drop_null()):
        raise DataError(problem)
    try:
        values = _numbers(trimmed, pa.float64()) if text else column.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"{problem}: {error}") from error
    if pc.any(pc.is_inf(values)).as_py():
        raise DataError(f"{table.source}: column {name!r} holds an infinite number")
    return values


def _are_booleans(lower: Any) -> bool:
    return set(lower.drop_null().unique().to_pylist()) <= {"true", "false"}


def _numbers(trimmed: Any, type_: Any) -> Any:
    """Text as numbers. Raises pa.ArrowInvalid, which names the first that is none."""
    values = pc.if_else(pc.is_in(trimmed, _NO_NUMBER), None, trimmed).cast(type_)
    if pa.types.is_floating(type_):
        values = pc.if_else(pc.is_nan(values), None, values)
    return values


def _texts(column: Any) -> Any:
    """Any column as text, spelled as categories and ids are."""
    if pa.types.is_string(column.type):
        return column
    encoded = column.dictionary_encode()
    words = [category_text(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(encoded.indices)


def _codes(values: Any, vocabulary: Sequence[str]) -> NDArray[np.float64]:
    """float64[N]: the place of each text in the vocabulary; NaN if it has none."""
    codes = {word: float(code) for code, word in enumerate(vocabulary)}
    encoded = values.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    code_of_word = np.array([*(codes.get(word, np.nan) for word in words), np.nan])
    codes_of_rows: NDArray[np.float64] = code_of_word[
        encoded.indices.fill_null(len(words)).to_numpy()
    ]
    return codes_of_rows


def _floats(values: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    return found.astype(np.float64)


def _feature(table: Table, name: str) -> Feature | None:
    """The feature that a column is, or None if it says nothing."""
    column = table.columns[name]
    if table.untyped:
        kind, column = _guess(column)
    elif pa.types.is_boolean(column.type):
        kind = "boolean"
    else:
        kind = "category" if pa.types.is_string(column.type) else "number"
    present = table.rows - column.null_count
    if not present:
        return None
    if kind != "category":
        return Feature(name, kind, required=present == table.rows)
    counts = Counter(column.drop_null().to_pylist())
    if len(counts) > max(MAX_VOCABULARY, present // 2):
        return None
    kept = sorted(counts, key=lambda word: (-counts[word], word))[:MAX_VOCABULARY]
    required = sum(counts[word] for word in kept) == table.rows
    return Feature(name, kind, vocabulary=tuple(sorted(kept)), required=required)


def _json_values(values: Any) -> list[Any]:
    """Values as JSON spells them: an integer without a decimal point, None where missing."""
    found: list[Any] = values.to_pylist()
    if not pa.types.is_floating(values.type):
        return found
    numbers = _floats(values)
    whole = np.isnan(numbers) | (np.trunc(numbers) == numbers)
    if not whole.all() or np.nanmax(np.abs(numbers), initial=0.0) > _MAX_EXACT_INTEGER:
        return found
    return [None if value is None else int(value) for value in found]


def _some(names: Collection[str]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:10]) + (" …" if len(listed) > 10 else "")
