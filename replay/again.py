"""Events decided again with given answers: who is there is known beforehand, nobody is waited for.

The core is the one that decides live. It gets the events of a block, then the answers, and then
the time at which all of them leave. Of a cascade the heavy models answer where they were asked
live; where that is not known, the others answer first, and the rule is asked.
"""

from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cache.latest import Latest
from combiner.core import Combiner
from combiner.output import Output
from combiner.window import EventBlock
from replay.recorded import Recorded
from streams.frames import PredictionFrame
from streams.instants import WallMs
from streams.records import ScoredRecord

Place = tuple[str, int]  # topic, partition

_decode = msgspec.json.Decoder(ScoredRecord).decode
_encode = msgspec.json.Encoder().encode


class Recollection:
    """What the cache said then: the cached scores of a block's events, by entity, in their order.

    Where a record tells of none, none was known.
    """

    def __init__(self) -> None:
        self._cached: dict[str, deque[Latest | None]] = {}

    def expect(self, block: EventBlock, recorded: Recorded | None) -> None:
        """The next events to be decided."""
        self._cached = {}
        if recorded is None:
            return
        for offset, entity in zip(block.offsets.tolist(), block.entities, strict=True):
            record = recorded.record(offset)
            if record is not None and record.fallback in {"cached", "prior"}:
                self._cached.setdefault(entity, deque()).append(recorded.cached(offset))

    def recall(self, entities: Sequence[str]) -> list[Latest | None]:
        """See `combiner.decision.Decider`."""
        found = []
        for entity in entities:
            waiting = self._cached.get(entity)
            found.append(waiting.popleft() if waiting else None)
        return found


class Again:
    """Decides block after block.

    Args:
        core: a new one, with no partition open, that asks `recollection`.
        recollection: see there.
        deadline_ns: after so long everything has left.
        heavy: the models of a cascade that are asked about few events.
    """

    def __init__(
        self,
        core: Combiner,
        recollection: Recollection,
        deadline_ns: int,
        heavy: Sequence[str] = (),
    ) -> None:
        self._core = core
        self._recollection = recollection
        self._deadline_ns = deadline_ns
        self._heavy = frozenset(heavy)
        self._now_ns = 0
        self._frames = 0

    def decide(
        self,
        place: Place,
        block: EventBlock,
        frames: Sequence[PredictionFrame],
        recorded: Recorded | None,
    ) -> tuple[list[Output], list[tuple[bytes | None, bytes]]]:
        """Decide the events of a block.

        Args:
            place: their input partition.
            block: the events, behind all earlier ones of the partition.
            frames: the answers to them.
            recorded: what was said of them live; how long it took and why somebody was missing
                are facts that are carried over. Without it nothing took any time.

        Returns:
            What left the core, and key and value of each scored record.
        """
        if place not in self._core.places:
            self._core.open(place, int(block.offsets[0]))
        self._recollection.expect(block, recorded)
        self._core.add_events(place, block, self._now_ns)
        outputs: list[Output] = []
        if self._heavy and recorded is not None:
            self._core.ask(place, recorded.asked(block.offsets), self._now_ns)
        elif self._heavy:
            self._add([frame for frame in frames if frame.model not in self._heavy], place)
            outputs = self._core.advance(self._now_ns, WallMs(0))
            asked = [part.offsets for _, part in self._core.escalated]
            frames = [
                part
                for frame in frames
                if frame.model in self._heavy and (part := _of_events(frame, asked)) is not None
            ]
        self._add(frames, place)
        self._now_ns += self._deadline_ns
        # Everything is told as of the instant 0: ages of cached scores are (`Recorded.cached`).
        outputs += self._core.advance(self._now_ns, WallMs(0))
        assert sum(map(len, outputs)) == len(block), "all leave when their time is up"
        scored = [
            (key, _carried_over(value, recorded)) for out in outputs for key, value in out.scored
        ]
        return outputs, scored

    def _add(self, frames: Sequence[PredictionFrame], place: Place) -> None:
        numbered = list(enumerate(frames, self._frames))
        self._core.add_frames(place[1], numbered, self._now_ns)
        self._frames += len(numbered)


def _of_events(
    frame: PredictionFrame, events: Sequence[NDArray[np.int64]]
) -> PredictionFrame | None:
    """A frame's answers to some events alone; None without any."""
    rows = np.flatnonzero(np.isin(frame.offsets, np.concatenate([[-1], *events])))
    if not len(rows):
        return None
    refusals = {
        place: frame.refusals[row]
        for place, row in enumerate(rows.tolist())
        if row in frame.refusals
    }
    return msgspec.structs.replace(
        frame, offsets=frame.offsets[rows], scores=frame.scores[rows], refusals=refusals
    )


def _carried_over(value: bytes, recorded: Recorded | None) -> bytes:
    record = _decode(value)
    then = None
    if recorded is not None:
        then = recorded.record(int(record.source.rpartition("/")[2]))
    if then is None:
        return _encode(msgspec.structs.replace(record, latency_ms=0.0, stages=None))
    missing = {model: then.missing.get(model, why) for model, why in record.missing.items()}
    return _encode(
        msgspec.structs.replace(
            record, latency_ms=then.latency_ms, missing=missing, stages=then.stages
        )
    )
