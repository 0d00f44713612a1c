"""What a run left behind, put in order for the judges: events, outcomes, answers."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from simulation.inputs import CLASSES, shares
from simulation.journal import Tenure
from simulation.log import Entry
from simulation.process import DEAD_LETTERS, PREDICTIONS, SCORED
from simulation.world import Run, weights_of
from streams.frames import FrameError, PredictionFrame, decode_frames
from streams.instants import NS_PER_MS
from streams.records import Headers

Event = tuple[str, int, int]  # topic, partition, offset
# A fetch is followed by a rest, and a wake-up is never finer than a millisecond.
WAKE_SLACK_NS = 4 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said first about an event; NaN is a refusal."""

    record: int
    score: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scored record or a dead letter, as a `read_committed` reader has it."""

    event: Event
    entry: Entry
    scored: dict[str, Any] | None
    error: str


class Evidence:
    """The logs of a run, put in order once for all judges."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.plan = run.plan
        self.members = {member.name: member for member in run.plan.members}

    @cached_property
    def events(self) -> dict[Event, Entry]:
        """All events, in the order of each partition."""
        records = [r for topic in self.plan.inputs for r in self.run.log.committed_records(topic)]
        return {(*record.place, record.number): record for record in records}

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, those of one topic and partition in their order."""
        log = self.run.log
        scored = [_scored(entry) for entry in log.committed_records(SCORED)]
        return scored + [_dead(entry) for entry in log.committed_records(DEAD_LETTERS)]

    @cached_property
    def frames(self) -> dict[int, list[tuple[int, PredictionFrame]]]:
        """By partition: offset and content of each record that counts."""
        found: dict[int, list[tuple[int, PredictionFrame]]] = {}
        for entry in self.run.log.committed_records(PREDICTIONS):
            try:
                frames = decode_frames(entry.record_value)
            except FrameError:
                continue
            for frame in frames:
                if frame.partition == entry.place[1] and self._counts(frame):
                    found.setdefault(frame.partition, []).append((entry.number, frame))
        return found

    def _counts(self, frame: PredictionFrame) -> bool:
        """Whether it is of a member, of its version, and of as many numbers as wanted."""
        member = self.members.get(frame.model)
        known = member is not None and (not member.version or frame.version == member.version)
        width = (len(self.plan.classes),) if self.plan.classes else ()
        return known and frame.scores.shape[1:] == width

    @cached_property
    def answers(self) -> dict[tuple[Event, str], Answer]:
        """The first answer of each model to each event."""
        first: dict[tuple[Event, str], Answer] = {}
        for partition, frames in self.frames.items():
            for record, frame in frames:
                # Of several classes the first says it all, see `simulation.inputs.shares`.
                scores = frame.scores if frame.scores.ndim == 1 else frame.scores[:, 0]
                cells = zip(frame.offsets.tolist(), scores.tolist(), strict=True)
                for offset, score in cells:
                    cell = ((frame.topic, partition, offset), frame.model)
                    first.setdefault(cell, Answer(record, self._judged(frame.model, score)))
        return first

    def _judged(self, model: str, score: float) -> float:
        member = self.members[model]
        low = -math.inf if member.minimum is None else member.minimum
        high = math.inf if member.maximum is None else member.maximum
        return score if low <= score <= high and math.isfinite(score) else math.nan

    def combined(self, answered: dict[str, float], rung: str) -> float:
        """What the strategy makes of some answers, or on the rung `reserve` the mean."""
        if self.plan.strategy == "median" and rung != "reserve":
            found = sorted(answered.values())
            return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2
        weights = dict(zip(self.members, weights_of(self.plan), strict=True))
        total = sum(weights[name] for name in answered)
        return sum(weights[name] * score for name, score in answered.items()) / total

    def tenure(self, outcome: Outcome) -> Tenure:
        """Who decided."""
        return self.run.journal.tenures[outcome.entry.written_by]


def _in_one_number(record: dict[str, Any]) -> dict[str, Any]:
    """A record of several classes as one of a single score, which is infinite if it is none.

    The judges know what the score of the first class must be; the others follow from it.
    """
    found = record.get("scores")
    if found is None:
        return record
    score = found[CLASSES[0]]
    expected = dict(zip(CLASSES, shares(np.array(score)).tolist(), strict=True))
    sound = record["label"] == max(found, key=lambda name: found[name])
    sound &= record["score"] == found[record["label"]] and found.keys() == expected.keys()
    sound &= all(abs(found[name] - expected[name]) < 1e-9 for name in found)
    record["score"] = score if sound else math.inf
    shown = record.get("predictions") or {}
    record["predictions"] = {model: answer[CLASSES[0]] for model, answer in shown.items()}
    return record


def _scored(entry: Entry) -> Outcome:
    record = _in_one_number(msgspec.json.decode(entry.record_value or b""))
    topic, partition, offset = record["source"].split("/")
    return Outcome((topic, int(partition), int(offset)), entry, record, "")


def _dead(entry: Entry) -> Outcome:
    found = {name: (text or b"").decode() for name, text in entry.record_headers}
    event = (found[Headers.TOPIC], int(found[Headers.PARTITION]), int(found[Headers.OFFSET]))
    return Outcome(event, entry, None, found[Headers.CLASS])
