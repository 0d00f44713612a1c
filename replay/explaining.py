"""Why an event has its score: what was said of it, and the decision made again with explanation."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from combiner.latency import STAGES, stages
from registry.bundle import LoadedBundle
from replay.bounds import Bound
from replay.finding import Finder, Story
from replay.output import ScoreOutput
from replay.run import Replay, Wanted
from streams.errors import DataError
from streams.records import ScoredRecord
from streams.settings import Settings
from streams.stretches import StretchReader

# Two computers may add up floats in another order.
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Explained:
    """A story, and the same decision with explanation.

    Attributes:
        story: what the topics hold.
        again: the score decided again, with the answers that were there then.
        models: all configured models, in order.
    """

    story: Story
    again: ScoredRecord
    models: Sequence[str]

    @property
    def same(self) -> bool:
        """Whether the ensemble here comes to the score that was published."""
        scored = self.story.scored
        return abs(self.again.score - scored.score) <= _SAME and self.again.label == scored.label

    def facts(self) -> dict[str, Any]:
        """All of it, as a JSON object."""
        story = self.story
        return {
            "published": msgspec.to_builtins(story.scored),
            "again": msgspec.to_builtins(self.again),
            "same": self.same,
            "event_record_ms": story.event_ms,
            "score_record_ms": story.scored_at_ms,
            "models": [self._row(model) for model in self.models],
            "latency": self._latency(),
        }

    def _row(self, model: str) -> dict[str, Any]:
        """One model: what it said, what that did, and when it came."""
        story, again = self.story, self.again
        answer = next((each for each in story.answers if each.model == model), None)
        told = again.explanation
        row: dict[str, Any] = {"model": model, "used": model in story.scored.models}
        if answer is not None:
            row["version"] = answer.version
            row["record"] = answer.record
            row["sent_after_ms"] = answer.sent_ms - story.event_ms
            row["queue_ms"] = answer.timing.queue_ms
            row["model_ms"] = answer.timing.model_ms
            if answer.refusal:
                row["refusal"] = answer.refusal
            else:
                row["said"] = answer.scores[0] if len(answer.scores) == 1 else answer.scores
        for name, values in (
            ("calibrated", again.predictions),
            ("contribution", again.contributions),
            ("without", told and told.without),
        ):
            if values and model in values:
                row[name] = values[model]
        row["remark"] = self._remark(model, answered=answer is not None)
        return row

    def _remark(self, model: str, *, answered: bool) -> str:
        told, missing = self.again.explanation, self.story.scored.missing.get(model)
        if missing is not None:
            return missing if answered or ":" in missing else f"{missing}, never answered"
        if model in self.story.scored.not_asked:
            return "not asked: the others were certain, or there was no time left"
        if told is not None and model in told.decisive:
            return "decisive: without it the label would be another"
        return "" if model in self.story.scored.models else "not used"

    def _latency(self) -> dict[str, Any]:
        """Where the time went: as the combiner kept it, else as far as timestamps tell."""
        story = self.story
        if story.scored.stages is not None:
            kept: dict[str, Any] = msgspec.to_builtins(story.scored.stages)
            return {**kept, "kept": True}
        used = [each for each in story.answers if each.model in story.scored.models]
        if not used:
            return {"total_ms": story.scored.latency_ms}
        # Of those written in the same millisecond the one that stands last in the topic.
        last = max(used, key=lambda each: (each.sent_ms, each.record))
        scored_ms = story.event_ms + story.scored.latency_ms
        given = (story.event_ms, last.sent_ms, last.timing.queue_ms, last.timing.model_ms)
        found = stages(*(np.array(float(value)) for value in (*given, last.sent_ms, scored_ms)))
        shares = dict(zip(STAGES, np.round(found, 3).tolist(), strict=True))
        # When the combiner had the answer is in no topic.
        del shares["to_combiner_ms"]
        shares["broker_and_combiner_ms"] = shares.pop("combiner_ms")
        return {"model": last.model, **shares, "kept": False}


class _Kept(ScoreOutput):
    """Keeps the scores of a replay."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, None, None)
        self.values: list[bytes] = []

    def write(self, partition: int, records: Sequence[tuple[bytes | None, bytes]]) -> None:
        """Keep the values; `partition` is that of all of them."""
        super().write(partition, records)
        self.values += [value for _, value in records]


def explained(
    settings: Settings, bundle: LoadedBundle, event: str, stop: threading.Event
) -> Explained:
    """Find an event and explain its score.

    Args:
        settings: the configuration.
        bundle: the ensemble that decides again.
        event: its id, or `topic/partition/offset`.
        stop: when set, the search ends.

    Raises:
        DataError: there is no such event, no score of it, or an answer is no longer there.
        BrokerError: the broker refuses or does not answer.
        ConfigurationError, BundleError: settings and bundle do not fit together.
    """
    with StretchReader(settings.kafka) as reader:
        story = Finder(settings, reader, stop).story_of(event)
    update = {"explain": True}
    asking = settings.model_copy(update={"combiner": settings.combiner.model_copy(update=update)})
    kept = _Kept(asking)
    offsets: Mapping[tuple[str, int], int] = {story.place: story.offset}
    behind: Mapping[tuple[str, int], int] = {story.place: story.offset + 1}
    wanted = Wanted(Bound(offsets=offsets), Bound(offsets=behind), as_recorded=True)
    Replay(asking, bundle, wanted, kept, lambda _done, _all: None, stop).run()
    if len(kept.values) != 1:
        raise DataError(f"{story.scored.source}: could not be decided again")
    again = msgspec.json.decode(kept.values[0], type=ScoredRecord)
    return Explained(story, again, [model.name for model in settings.models])
