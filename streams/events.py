"""From the bytes of events to a matrix of features, row by row honest about what is bad.

Two paths. The fast one decodes every value into a generated struct and lifts whole columns into
arrays. The slow one runs only for a value that the fast one refused, to say what is wrong with
it. Worker and combiner use this same decoder, so they always agree on which events are bad.
Whoever wants no features gets the same verdicts cheaper: decoding alone checks them, and a batch
with anything doubtful in it takes the way of all others.

Numbers are strict: `"12"` is not a number and `true` is not 1 for a `number` feature, because a
producer that changed its types would otherwise shift every score without a word.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.features import Feature, FeatureSchema
from streams.instants import MAX_WALL_MS, MIN_WALL_MS, wall_ms_from_iso
from streams.shapes import JsonShape, getter_of, rows_getter_of

# An id or entity becomes part of keys, logs and cache names; the longest in use elsewhere
# (URNs, hashes with prefixes) stay far below this.
MAX_ID_CHARS = 1024
# The key goes with the score, and the two must fit into a record of any broker.
MAX_KEY_BYTES = 65_536
# Error texts travel in headers; the cause is in the first words.
MAX_REASON_CHARS = 300

# Integers of JSON have no limit, the matrix has.
_LARGEST = int(np.finfo(np.float64).max)

_MISSING = float("nan")
_UNKNOWN_CATEGORY = float("nan")


@dataclass(frozen=True, slots=True)
class BadEvent:
    """Why the event at `position` of the batch cannot be scored."""

    position: int
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class DecodedEvents:
    """A batch of events, good and bad.

    Attributes:
        positions: int64[N], the places of the good events in the batch, ascending.
        matrix: float64[N, F] in schema order; NaN is missing.
        ids: N event ids.
        entities: N entity keys.
        time_ms: int64[N], event time in milliseconds since 1970.
        bad: the others, in batch order.
    """

    positions: NDArray[np.int64]
    matrix: NDArray[np.float64]
    ids: list[str]
    entities: list[str]
    time_ms: NDArray[np.int64]
    bad: list[BadEvent]


class _BadValueError(Exception):
    """One event's fault; the message is for the dead letter."""


_TYPES: dict[str, Any] = {
    "number": int | float | None,
    "boolean": bool | None,
    "category": str | int | float | bool | None,
}
# Without null, and numbers only as large as a float can be.
_REQUIRED_TYPES: dict[str, Any] = {
    "number": float,
    "boolean": bool,
    "category": str | int | float | bool,
}
_OPTIONAL_TYPES: dict[str, Any] = {**_TYPES, "number": float | None}
_SCALAR = str | int | float | None
# TypeError: there is no value.
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError)


class EventDecoder:
    """Decodes batches of JSON events into feature matrices.

    Args:
        schema: the columns wanted.
        id_path: where the event's id is; empty means that the caller's default names it.
        entity_path: where the entity key is; empty means the record's key, else the id.
        time_path: where the event time is (milliseconds since 1970 or ISO 8601); empty means
            the record's timestamp.
        features: whether the matrix is wanted; without, it is float64[N, 0].

    Raises:
        ConfigurationError: a key cannot be looked for.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        id_path: Sequence[str] = (),
        entity_path: Sequence[str] = (),
        time_path: Sequence[str] = (),
        *,
        features: bool = True,
    ) -> None:
        assert len(schema) > 0, "a schema without features decodes nothing"
        self.schema = schema
        self._paths = {"id": tuple(id_path), "entity": tuple(entity_path), "time": tuple(time_path)}
        root = JsonShape()
        for feature in schema.features:
            root.add(feature.keys, _TYPES[feature.kind])
        for path in self._paths.values():
            if path:
                root.add(path, _SCALAR)
        struct = root.struct("Event")
        self._decode = msgspec.json.Decoder(struct).decode
        self._rows_of = rows_getter_of(root, [feature.keys for feature in schema.features])
        self._meta_getters = {
            role: getter_of(root.getter(path)) for role, path in self._paths.items() if path
        }
        self._converters = [_converter(feature) for feature in schema.features]
        self._converted = [i for i, convert in enumerate(self._converters) if convert]
        self._required = np.array([f.required for f in schema.features], dtype=np.bool_)
        self._features = features
        self._checked = None if features else self._checking_decoder()

    def _checking_decoder(self) -> Callable[[bytes], Any] | None:
        """Decodes only what has no bad feature; None where such a type cannot be had."""
        root = JsonShape()
        for feature in self.schema.features:
            types = _REQUIRED_TYPES if feature.required else _OPTIONAL_TYPES
            root.add(feature.keys, types[feature.kind], required=feature.required)
        numbers = {f.keys for f in self.schema.features if f.kind == "number"}
        for path in self._paths.values():
            if path in numbers:
                return None  # the number 1 names an event "1", the float would name it "1.0"
            if path:
                root.add(path, _SCALAR)
        return msgspec.json.Decoder(root.struct("Event")).decode

    def decode(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        record_ms: NDArray[np.int64],
        default_ids: Callable[[int], str],
    ) -> DecodedEvents:
        """Decode N records.

        Args:
            values: N record values.
            keys: N record keys.
            record_ms: int64[N], record timestamps in milliseconds since 1970.
            default_ids: the id of the event at a position, where no id field is configured.
        """
        wrong: dict[int, tuple[str, str]] = {}
        bad: list[BadEvent] = []
        checked = self._all_checked(values)
        if checked is not None:
            structs, positions = checked, np.arange(len(values), dtype=np.int64)
            matrix = np.empty((len(values), 0))
        else:
            structs, positions, bad = self._decode_all(values)
            matrix = self._matrix(structs, wrong)
        ids = self._texts("id", structs, wrong)
        entities = self._texts("entity", structs, wrong)
        times = self._times(structs, record_ms[positions], wrong)
        self._check_keys(keys, positions, wrong)
        if wrong:
            bad += [BadEvent(int(positions[row]), *why) for row, why in wrong.items()]
            bad.sort(key=operator.attrgetter("position"))
            good = [row for row in range(len(structs)) if row not in wrong]
            positions, matrix, times = positions[good], matrix[good], times[good]
            ids = [ids[row] for row in good] if ids else ids
            entities = [entities[row] for row in good] if entities else entities
        where: list[int] = positions.tolist()
        if not self._paths["id"]:
            ids = [default_ids(position) for position in where]
        if not self._paths["entity"]:
            entities = ids
            if any(keys):
                named = zip(where, ids, strict=True)
                entities = [_key_text(keys[position]) or id_ for position, id_ in named]
        if not self._features:
            matrix = matrix[:, :0]
        return DecodedEvents(positions, matrix, ids, entities, times, bad)

    def _all_checked(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """The values decoded, if no features are wanted and none is wrong."""
        decode = self._checked
        if decode is None:
            return None
        try:
            return list(map(decode, values))  # type: ignore[arg-type]
        except _UNDECODABLE:
            return None

    @staticmethod
    def _check_keys(
        keys: Sequence[bytes | None],
        positions: NDArray[np.int64],
        wrong: dict[int, tuple[str, str]],
    ) -> None:
        if max(map(len, filter(None, keys)), default=0) <= MAX_KEY_BYTES:
            return
        for row, position in enumerate(positions.tolist()):
            size = len(keys[position] or b"")
            if size > MAX_KEY_BYTES:
                why = f"the key has {size} bytes; expected at most {MAX_KEY_BYTES}"
                wrong.setdefault(row, ("KeyTooLong", why))

    def _decode_all(
        self, values: Sequence[bytes | None]
    ) -> tuple[list[Any], NDArray[np.int64], list[BadEvent]]:
        decode = self._decode
        try:
            structs = list(map(decode, values))  # type: ignore[arg-type]
        except _UNDECODABLE:
            pass
        else:
            return structs, np.arange(len(structs), dtype=np.int64), []
        structs, positions, bad = [], [], []
        for position, value in enumerate(values):
            try:
                structs.append(self._decode_one(value))
            except _BadValueError as error:
                bad.append(BadEvent(position, *error.args))
            else:
                positions.append(position)
        return structs, np.array(positions, dtype=np.int64), bad

    def _decode_one(self, value: bytes | None) -> Any:
        if value is None:
            raise _BadValueError("Tombstone", "the value is null; expected a JSON object")
        try:
            return self._decode(value)
        except msgspec.ValidationError as error:
            raise _BadValueError("WrongType", self._explain(str(error))) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _BadValueError("NotJson", str(error)[:MAX_REASON_CHARS]) from error
        except RecursionError as error:
            raise _BadValueError("NotJson", "the value is nested too deeply") from error

    @staticmethod
    def _explain(message: str) -> str:
        return message.replace(" | null", "").replace("Object", "object")[:MAX_REASON_CHARS]

    def _matrix(self, structs: list[Any], wrong: dict[int, tuple[str, str]]) -> NDArray[np.float64]:
        """The float64[N, F] matrix; what is wrong by row goes into `wrong`."""
        if not structs:
            return np.empty((0, len(self.schema)))
        rows = self._rows_of(structs)
        given_at: dict[int, NDArray[np.bool_]] = {}
        if self._converted:
            columns = [list(column) for column in zip(*rows, strict=True)]
            for i in self._converted:
                convert = self._converters[i]
                assert convert is not None
                given_at[i] = np.array([value is not None for value in columns[i]])
                columns[i] = [convert(value) for value in columns[i]]
            rows = list(zip(*columns, strict=True))
        try:
            matrix = _matrix_of(rows)
        except OverflowError:
            matrix = _matrix_of(self._without_giants(rows, wrong))
        missing = np.isnan(matrix) & self._required
        for i, given in given_at.items():
            # A value outside the vocabulary is there, only nobody has seen it before.
            missing[given, i] = False
        if missing.any():
            for row in np.flatnonzero(missing.any(axis=1)).tolist():
                names = [self.schema.names[i] for i in np.flatnonzero(missing[row])]
                listed = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
                wrong.setdefault(row, ("MissingFeature", f"missing or null: {listed}"))
        return matrix

    def _without_giants(
        self, rows: list[tuple[Any, ...]], wrong: dict[int, tuple[str, str]]
    ) -> list[tuple[Any, ...]]:
        """The rows, without integers that no float can hold; these make their row bad."""
        kept = []
        for row, cells in enumerate(rows):
            giant = [isinstance(cell, int) and abs(cell) > _LARGEST for cell in cells]
            if any(giant):
                name = self.schema.names[giant.index(True)]
                wrong[row] = ("WrongType", f"number out of range: {name}")
            kept.append(tuple(None if g else cell for g, cell in zip(giant, cells, strict=True)))
        return kept

    def _texts(self, role: str, structs: list[Any], wrong: dict[int, tuple[str, str]]) -> list[str]:
        getter = self._meta_getters.get(role)
        if getter is None:
            return []
        values = list(map(getter, structs))
        usual = set(map(type, values)) == {str} and all(values)
        if usual and max(map(len, values)) <= MAX_ID_CHARS:
            return values
        texts: list[str] = []
        for row, value in enumerate(values):
            text = "" if value is None else str(value)
            if not text or len(text) > MAX_ID_CHARS:
                place = ".".join(self._paths[role])
                problem = f"longer than {MAX_ID_CHARS} characters" if text else "missing or empty"
                wrong.setdefault(row, ("NoId", f"{role} `{place}` is {problem}"))
            texts.append(text)
        return texts

    def _times(
        self,
        structs: list[Any],
        record_ms: NDArray[np.int64],
        wrong: dict[int, tuple[str, str]],
    ) -> NDArray[np.int64]:
        getter = self._meta_getters.get("time")
        if getter is None:
            return record_ms
        times = record_ms.copy()
        for row, struct in enumerate(structs):
            value = getter(struct)
            if value is None:
                continue  # the record's own timestamp stands in
            try:
                times[row] = _time_ms(value)
            except (ValueError, OverflowError):
                place = ".".join(self._paths["time"])
                wrong.setdefault(row, ("BadTime", f"`{place}` is no time: {str(value)[:60]!r}"))
        return times


def _matrix_of(rows: list[tuple[Any, ...]]) -> NDArray[np.float64]:
    """float64[N, F]; None becomes NaN. Raises OverflowError where an integer is too large."""
    try:
        cells = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(rows[0]))
    except TypeError:
        return np.array(rows, dtype=np.float64)
    return cells.reshape(len(rows), -1)


def _converter(feature: Feature) -> Callable[[Any], Any] | None:
    """How a decoded cell becomes a number, where it is not one already."""
    if feature.kind != "category":
        return None
    codes = {value: float(code) for code, value in enumerate(feature.vocabulary)}

    def code(value: Any) -> float:
        if value is None:
            return _MISSING
        return codes.get(category_text(value), _UNKNOWN_CATEGORY)

    return code


def category_text(value: str | float | bool) -> str:  # noqa: FBT001 -- a JSON value, no switch
    """The spelling of a category: `true`, `1` and `1.0` mean the same in JSON, CSV and Parquet.

    >>> [category_text(v) for v in (True, 1.0, 2.5, "a")]
    ['true', '1', '2.5', 'a']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _key_text(key: bytes | None) -> str:
    return key.decode("utf-8", "backslashreplace")[:MAX_ID_CHARS] if key else ""


def _time_ms(value: str | float) -> int:
    ms = wall_ms_from_iso(value) if isinstance(value, str) else int(value)
    if not MIN_WALL_MS <= ms <= MAX_WALL_MS:
        raise ValueError(value)
    return int(ms)
