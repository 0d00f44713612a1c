"""What producers and strangers write: events good and bad, and frames that mean nothing.

An event carries in a header what the decoder must find, so that a judge needs no decoder.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulation.log import Entry
from streams.events import EventDecoder
from streams.features import Feature, FeatureSchema
from streams.frames import PredictionFrame, encode_frame

EXPECT = "expect"
GOOD = b"good"
ENTITIES = 5
# Values of `mood` at which a model misbehaves.
RAISES, SAYS_NAN, LEAVES_RANGE = 1.0, 2.0, 3.0

SCHEMA = FeatureSchema(
    (
        Feature("amount"),
        Feature("mood"),
        Feature("country", "category", ("DE", "FR"), required=False),
        Feature("member", "boolean", required=False),
    )
)
# One for all runs: a decoder keeps nothing between two calls.
DECODER = EventDecoder(SCHEMA, ("id",), ("who",), ("at",))

_encode = msgspec.json.encode


def _cut(event: dict[str, object]) -> bytes:
    return _encode(event)[:-3]


def _with(**changes: object) -> Callable[[dict[str, object]], bytes]:
    return lambda event: _encode(event | changes)


def _without(name: str) -> Callable[[dict[str, object]], bytes]:
    return lambda event: _encode({key: value for key, value in event.items() if key != name})


def _literal(name: str, text: bytes) -> Callable[[dict[str, object]], bytes]:
    return lambda event: _encode(event | {name: "?"}).replace(b'"?"', text)


# What is wrong with an event, and the class of the dead letter.
BAD: tuple[tuple[str, Callable[[dict[str, object]], bytes | None]], ...] = (
    ("Tombstone", lambda _: None),
    ("NotJson", lambda _: b""),
    ("NotJson", lambda _: b"\x00\xff\xfe\x80"),
    ("WrongType", lambda _: b"[" * 5000),
    ("NotJson", _cut),
    ("NotJson", _literal("amount", b"NaN")),
    ("NotJson", _literal("amount", b"Infinity")),
    ("WrongType", lambda _: b"[1,2]"),
    ("WrongType", _literal("amount", b"1" + b"0" * 400)),
    ("WrongType", _with(amount="12")),
    ("WrongType", _with(amount=True)),
    ("WrongType", _with(amount={"value": 1})),
    ("WrongType", _with(member=1)),
    ("WrongType", _with(country=["DE"])),
    ("MissingFeature", _with(amount=None)),
    ("MissingFeature", _without("mood")),
    ("NoId", _without("id")),
    ("NoId", _with(id="")),
    ("NoId", _with(id="x" * 2000)),
    ("BadTime", _with(at="yesterday")),
    ("BadTime", _with(at=10**18)),
)

# Unusual, and still an event.
ODD: tuple[Callable[[dict[str, object]], bytes], ...] = (
    _with(country="XX"),
    _with(member=None, country=None),
    _with(at=0),
    _with(at="2999-01-01"),
    _with(more=[{"deep": [1, 2, 3]}]),
    lambda event: b" \n" + _encode(event),
    lambda event: _encode(event)[:-1] + b',"amount":0.5}',
)


def event_of(
    number: int, dice: np.random.Generator, *, bad: float, moody: float
) -> tuple[bytes, bytes | None, bytes]:
    """Key, value and expectation of the event with a number."""
    who = f"u{int(dice.integers(ENTITIES))}"
    event: dict[str, object] = {"id": number, "who": who, "amount": dice.random(), "mood": 0}
    if dice.random() < bad:
        expected, spoil = BAD[int(dice.integers(len(BAD)))]
        return who.encode(), spoil(event), expected.encode()
    if dice.random() < moody:
        event["mood"] = int(dice.integers(1, 4))
    if dice.random() < 0.2:
        return who.encode(), ODD[int(dice.integers(len(ODD)))](event), GOOD
    return who.encode(), _encode(event), GOOD


CLASSES = ("first", "second", "third")


def shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Float64[..., 3]: probabilities of three classes that say what a score says.

    Means and medians of them are the shares of the scores' mean and median.
    """
    rest = 1.0 - scores
    return np.stack([scores, rest / 4, 3 * rest / 4], axis=-1)


def predict(name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A model: the fractional part of a multiple, and its moods."""
    place = ord(name)
    mood = matrix[:, 1]
    if name in {"a", "r"} and (mood == RAISES).any():
        raise ValueError("I do not like this")
    scores: NDArray[np.float64] = np.modf(matrix[:, 0] * place + place / 7)[0]
    if name != "c":
        scores = np.where(mood == SAYS_NAN, math.nan, scores)
    if name in {"b", "c"}:
        scores = np.where(mood == LEAVES_RANGE, 7.5, scores)
    return scores


def nonsense(event: Entry, dice: np.random.Generator) -> bytes | None:
    """A predictions record that must change nothing."""
    topic, partition = event.place
    offsets, scores = np.array([event.number]), np.array([0.123])

    def frame(model: str, version: str, partition: int, scores: NDArray[np.float64]) -> bytes:
        return encode_frame(PredictionFrame(model, version, topic, partition, offsets, scores))

    kinds: tuple[bytes | None, ...] = (
        None,
        b"",
        b"rubbish",
        b'{"model": "a"',
        b'{"model": "a", "topic": "events", "partition": 0, "offsets": [1], "scores": []}',
        frame("a", "a1", partition, scores)[:-9],
        frame("a", "a0", partition, scores),
        frame("stranger", "", partition, scores),
        frame("a", "a1", partition + 1, scores),
        frame("b", "b1", partition, scores[None, :].repeat(2, axis=1)),
    )
    return kinds[int(dice.integers(len(kinds)))]
