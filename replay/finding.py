"""One event and all that was said of it, found in the topics: for people who ask why."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from replay.relive import frames_in
from streams.errors import DataError
from streams.frames import UNSTATED_REASON, PredictionFrame, Timing
from streams.records import ScoredRecord
from streams.settings import Settings
from streams.stretches import Place, Stretch, StretchReader

# Answers and scores are looked for from so long before the event's timestamp on: clocks of
# machines differ by less. Answers that come so long after the score are not looked for.
_SLACK_MS = 60_000

_decode_scored = msgspec.json.Decoder(ScoredRecord).decode


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model said.

    Attributes:
        model: its name.
        version: its version.
        record: offset in `predictions`.
        sent_ms: timestamp of that record.
        scores: its numbers; empty for a refusal.
        refusal: why, else empty.
        timing: where the worker's time went.
    """

    model: str
    version: str
    record: int
    sent_ms: int
    scores: tuple[float, ...]
    refusal: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class Story:
    """What there is in the topics of one event.

    Attributes:
        place: input topic and partition.
        offset: the event's.
        event_ms: timestamp of its record.
        scored: what was published; of several the first.
        scored_at_ms: timestamp of that record.
        answers: the first of each model, in the order in which they came.
    """

    place: Place
    offset: int
    event_ms: int
    scored: ScoredRecord
    scored_at_ms: int
    answers: tuple[Answer, ...]


class Finder:
    """Looks for one event after the other.

    Args:
        settings: the configuration.
        reader: reads the topics.
        stop: when set, a search ends with DataError.
    """

    def __init__(self, settings: Settings, reader: StretchReader, stop: threading.Event) -> None:
        self._topics = settings.topics
        self._models = {model.name for model in settings.models}
        self._reader = reader
        self._stop = stop

    def story_of(self, event: str) -> Story:
        """All there is of an event, given by `topic/partition/offset` or by its id.

        An id is looked for in all scores that the topic holds; the newest with that id is taken.

        Raises:
            DataError: there is no such event, or no score of it.
            BrokerError: the broker refuses, does not answer, or lacks a topic.
        """
        place, offset = self._source(event) or self._source_by_id(event)
        event_ms = self._event_ms(place, offset)
        scored, scored_at_ms = self._scored(place, offset, event_ms)
        answers = self._answers(place, offset, event_ms, scored_at_ms)
        return Story(place, offset, event_ms, scored, scored_at_ms, answers)

    def _source(self, event: str) -> tuple[Place, int] | None:
        """Where an event is, if that is what the text says."""
        topic, _, rest = event.partition("/")
        partition, _, offset = rest.partition("/")
        if topic not in self._topics.inputs or not (partition.isdigit() and offset.isdigit()):
            return None
        return (topic, int(partition)), int(offset)

    def _source_by_id(self, event: str) -> tuple[Place, int]:
        quoted = msgspec.json.encode(event)
        places = self._reader.places([self._topics.scored])
        newest: tuple[int, ScoredRecord] | None = None
        for batch in self._reader.read({p: self._reader.held(p) for p in places}, self._stop):
            for message in batch:
                value = message.value() or b""
                record = _scored_of(value) if quoted in value else None
                if record is not None and record.id == event:
                    newest = max(newest or (-1, record), (_ms(message), record), key=lambda x: x[0])
        found = None if newest is None else self._source(newest[1].source)
        if found is None:
            raise DataError(
                f"{self._topics.scored}: no score of an event with the id {event!r}; expected the "
                "id of a scored event, or topic/partition/offset"
            )
        return found

    def _event_ms(self, place: Place, offset: int) -> int:
        if place not in self._reader.places([place[0]]):
            raise DataError(f"{place[0]}: has no partition {place[1]}")
        low, high = self._reader.held(place)
        if low <= offset < high:
            for batch in self._reader.read({place: (offset, offset + 1)}, self._stop):
                return _ms(batch[0])
        raise DataError(f"{place[0]}/{place[1]}/{offset}: no such event; there are {low} to {high}")

    def _scored(self, place: Place, offset: int, event_ms: int) -> tuple[ScoredRecord, int]:
        source = f"{place[0]}/{place[1]}/{offset}"
        quoted = b'"source":' + msgspec.json.encode(source)
        lane = (self._topics.scored, place[1])
        for batch in self._reader.read({lane: self._since(lane, event_ms)}, self._stop):
            for message in batch:
                value = message.value() or b""
                record = _scored_of(value) if quoted in value else None
                if record is not None and record.source == source:
                    return record, _ms(message)
        raise DataError(
            f"{source}: no score of it; it may be waiting still, or be a dead letter "
            "(`ensemble dead-letters`)"
        )

    def _answers(
        self, place: Place, offset: int, event_ms: int, scored_at_ms: int
    ) -> tuple[Answer, ...]:
        lane = (self._topics.predictions, place[1])
        found: dict[str, Answer] = {}
        for batch in self._reader.read({lane: self._since(lane, event_ms)}, self._stop):
            for message in batch:
                for answer in _answers_in(message, place, offset):
                    if answer.model in self._models:
                        found.setdefault(answer.model, answer)
            if len(found) == len(self._models) or _ms(batch[-1]) > scored_at_ms + _SLACK_MS:
                break
        return tuple(found.values())

    def _since(self, lane: Place, event_ms: int) -> Stretch:
        return self._reader.at_time(lane, event_ms - _SLACK_MS), self._reader.held(lane)[1]


def _answers_in(message: Message, place: Place, offset: int) -> Iterator[Answer]:
    for frame in frames_in(message.value()):
        answer = _answer_of(frame, message, place, offset)
        if answer is not None:
            yield answer


def _answer_of(
    frame: PredictionFrame, message: Message, place: Place, offset: int
) -> Answer | None:
    if (frame.topic, frame.partition) != place:
        return None
    rows = np.flatnonzero(frame.offsets == offset)
    if not len(rows):
        return None
    row = int(rows[0])
    scores = np.atleast_1d(frame.scores[row])
    refused = bool(np.isnan(scores).any())
    return Answer(
        frame.model,
        frame.version,
        int(message.offset() or 0),
        _ms(message),
        () if refused else tuple(scores.tolist()),
        frame.refusals.get(row, UNSTATED_REASON) if refused else "",
        frame.timing,
    )


def _scored_of(value: bytes) -> ScoredRecord | None:
    try:
        return _decode_scored(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _ms(message: Message) -> int:
    kind, time_ms = message.timestamp()
    return 0 if kind == TIMESTAMP_NOT_AVAILABLE else int(time_ms)
