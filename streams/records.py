"""What leaves the system, field by field: these names are a promise to users.

Scored records, health records and control records are JSON objects; dead letters are the
original bytes with headers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

from streams.events import BadEvent

Fallback = Literal["none", "partial", "reserve", "cached", "prior"]
ModelState = Literal["HEALTHY", "DEGRADED", "FAILED", "PROBING"]

# Long enough for any message worth reading, short enough for any broker's header limits.
MAX_HEADER_CHARS = 500


class Explained(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the members agree on a score, and whose absence would have mattered.

    Attributes:
        agreement: share of the used members' weight that has the ensemble's label.
        dispersion: standard deviation of the used members' answers.
        entropy: of the score, from 0 (certain) to 1 (anything is as likely).
        consensus: whether all used members have the ensemble's label.
        decisive: the members without whose answer the label would have been another.
        without: member → the score had it been absent; with several classes the score of each.

    Without a used member there is nothing to say, and of regression nothing about labels.
    """

    agreement: float | None = None
    dispersion: float | None = None
    entropy: float | None = None
    consensus: bool | None = None
    decisive: Sequence[str] = ()
    without: Mapping[str, float | dict[str, float]] = {}


class Stages(msgspec.Struct, frozen=True):
    """Where the latency of a score went, in milliseconds; see `combiner.latency`.

    `model` is whose answer it was that came last of those the score is made of.
    """

    model: str
    to_worker_ms: float
    queue_ms: float
    model_ms: float
    to_combiner_ms: float
    combiner_ms: float


class CorrectionRecord(msgspec.Struct, frozen=True):
    """What a late answer would have changed.

    Attributes:
        source: `topic/partition/offset` of the event.
        id: the event's id.
        revision: how many late answers there are by now; the published score is revision 0.
        model: whose answer came late.
        ensemble: `name@hash`.
        score_before: of the revision before.
        score_now: with this answer too.
        label_before: of the revision before.
        label_now: with this answer too.
        would_have_changed: whether these labels differ.
        time: when this was worked out, ISO 8601 in UTC.
    """

    source: str
    id: str
    revision: int
    model: str
    ensemble: str
    score_before: float
    score_now: float
    label_before: int | str | None
    label_now: int | str | None
    would_have_changed: bool
    time: str


class ScoredRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The final score of one event.

    Attributes:
        id: the event's id.
        score: the ensemble's score: for a binary classifier the probability of the positive class,
            for several classes that of the label, for regression the value.
        label: 1 where the score reaches the threshold, else 0; of several classes the name of the
            likeliest; null for regression.
        confidence: share of the members' total weight that answered and agrees with the label; for
            regression that answered.
        ensemble: `name@hash`, the exact bundle.
        models: the members whose answers were used.
        missing: model → `late`, `not awaited`, `failed` or `refused: …`.
        fallback: the rung of the ladder; `none` is the full ensemble, or all of it that was asked.
        event_time: when the event happened, ISO 8601 in UTC.
        latency_ms: from the input record's timestamp to this score, by wall clock.
        source: `topic/partition/offset` of the event.
        prediction_set: with promises, the labels of which one is the truth as often as promised;
            for regression `interval`, from and to.
        coverage: with promises, how often that is.
        cached_age_ms: for `cached`, how old the score is.
        predictions: with explanation, each member's calibrated answer.
        contributions: with explanation, each member's share in the score.
        scores: of several classes each one's probability; with several classes `predictions` and
            `contributions` hold such objects, too.
        explanation: with explanation, how far the members agree, and whose absence mattered.
        stages: with explanation, where the latency went.
        not_asked: with a cascade, the heavy models of which no answer was wanted.
    """

    id: str
    score: float
    label: int | str | None
    confidence: float
    ensemble: str
    models: Sequence[str]
    missing: dict[str, str]
    fallback: Fallback
    event_time: str
    latency_ms: float
    source: str
    cached_age_ms: int | None = None
    predictions: Mapping[str, float | dict[str, float]] | None = None
    contributions: Mapping[str, float | dict[str, float]] | None = None
    scores: dict[str, float] | None = None
    explanation: Explained | None = None
    stages: Stages | None = None
    prediction_set: Sequence[int | str] | None = None
    interval: Sequence[float] | None = None
    coverage: float | None = None
    not_asked: Sequence[str] = ()


class HealthRecord(msgspec.Struct, frozen=True):
    """One model's state as one combiner sees it, once a second.

    Counts are events since the last record: judged at their deadline as `answered`, `refused` or
    `missed`; `late` answers came after the score. `latency_ms` is the mean time from the
    combiner's first sight of an event to the model's answer, null without answers.
    """

    model: str
    state: ModelState
    combiner: str
    time: str
    answered: int
    late: int
    refused: int
    missed: int
    latency_ms: float | None
    since: str


class ControlRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks of a model; the topic is compacted by model."""

    model: str
    paused: bool


class RecordError(ValueError):
    """The bytes of a health or control record are none; the message says what is wrong."""


_from_health = msgspec.json.Decoder(HealthRecord).decode
_from_control = msgspec.json.Decoder(ControlRecord).decode
Record = TypeVar("Record")


def decode_health(value: bytes | None) -> HealthRecord:
    """A health record from its bytes.

    Raises:
        RecordError: they are none.
    """
    return _decoded(_from_health, value)


def decode_control(value: bytes | None) -> ControlRecord:
    """A control record from its bytes.

    Raises:
        RecordError: they are none.
    """
    return _decoded(_from_control, value)


def _decoded(decode: Callable[[bytes], Record], value: bytes | None) -> Record:
    if value is None:
        raise RecordError("the value is null; expected a JSON object")
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(str(error)[:MAX_HEADER_CHARS]) from error


class Headers:
    """Names of dead-letter headers, in the manner of Kafka Connect."""

    PREFIX = "__ensemble.errors."
    TOPIC = PREFIX + "topic"
    PARTITION = PREFIX + "partition"
    OFFSET = PREFIX + "offset"
    STAGE = PREFIX + "stage"
    CLASS = PREFIX + "exception.class.name"
    MESSAGE = PREFIX + "exception.message"
    ENSEMBLE = PREFIX + "ensemble"
    # Set where an event had to be cut because the topic takes no record of that size: the value's
    # length before.
    ORIGINAL_BYTES = PREFIX + "original.bytes"
    # On an event that was sent again after it had failed: how often. Being one of the event's own
    # headers then, it comes back with the next dead letter.
    ATTEMPTS = PREFIX + "attempts"


Header = tuple[str, bytes | None]


def dead_letter_headers(
    original: Sequence[Header] | None,
    topic: str,
    partition: int,
    offset: int,
    bad: BadEvent,
    ensemble: str,
) -> list[Header]:
    """The original headers and, behind them, what was wrong and where."""
    added = {
        Headers.TOPIC: topic,
        Headers.PARTITION: str(partition),
        Headers.OFFSET: str(offset),
        Headers.STAGE: "decode",
        Headers.CLASS: bad.error,
        Headers.MESSAGE: bad.reason[:MAX_HEADER_CHARS],
        Headers.ENSEMBLE: ensemble,
    }
    return [*(original or ()), *((name, text.encode()) for name, text in added.items())]
