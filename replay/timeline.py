"""Recorded events and answers on a virtual clock, through the same core that decides live.

The clock is made of the records' timestamps. Each partition is a lane in which time never goes
back; all lanes are read along one clock in ticks: what arrived within a tick is seen at its end,
events before answers, topics and partitions in one order. Between ticks the core is woken at the
very moments it asks for, so a deadline is a deadline. The result depends on the records alone,
never on how they were fetched.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cache.latest import Latest
from combiner.core import Combiner, Output
from combiner.window import EventBlock
from streams.frames import PredictionFrame
from streams.instants import NS_PER_MS, WallMs

Place = tuple[str, int]  # topic, partition
Ints = NDArray[np.int64]

_EVER = int(np.iinfo(np.int64).max)
Payload = TypeVar("Payload")


@dataclass(slots=True)
class _Part(Generic[Payload]):
    """Consecutive records of a lane; `taken` of them are gone."""

    arrivals: Ints
    payload: Payload
    taken: int = 0


class Lane(Generic[Payload]):
    """The records of one partition, in the order of their offsets, each with its arrival.

    A record arrives at its timestamp, but never before the one in front of it. A timestamp that
    the next record does not confirm is a clock gone wrong, and not followed into the future.
    """

    def __init__(self) -> None:
        self._parts: deque[_Part[Payload]] = deque()
        self._now_ms = 0  # arrival of the last record whose arrival is known
        self._open_ms: int | None = None  # timestamp of the last record, until the next one comes
        self.ended = False

    def put(self, timestamps_ms: Ints, payload: Payload) -> None:
        """Add N ≥ 1 records."""
        assert not self.ended
        self._settle(int(timestamps_ms[0]))
        confirmed = np.minimum(timestamps_ms[:-1], timestamps_ms[1:])
        arrivals = np.empty(len(timestamps_ms), dtype=np.int64)
        arrivals[:-1] = np.maximum.accumulate(np.maximum(confirmed, self._now_ms))
        arrivals[-1] = _EVER
        if len(arrivals) > 1:
            self._now_ms = int(arrivals[-2])
        self._open_ms = int(timestamps_ms[-1])
        self._parts.append(_Part(arrivals, payload))

    def end(self) -> None:
        """Nothing more will come."""
        if not self.ended:
            self._settle(_EVER)
            self.ended = True

    def _settle(self, next_ms: int) -> None:
        if self._open_ms is not None:
            self._now_ms = max(self._now_ms, min(self._open_ms, next_ms))
            self._parts[-1].arrivals[-1] = self._now_ms
            self._open_ms = None

    @property
    def known_until_ms(self) -> int:
        """All records that arrive before this are here."""
        return _EVER if self.ended else self._now_ms

    @property
    def first_ms(self) -> int:
        """Arrival of the first record that waits; far in the future without one."""
        return int(self._parts[0].arrivals[self._parts[0].taken]) if self._parts else _EVER

    def __len__(self) -> int:
        """Records that wait."""
        return sum(len(part.arrivals) - part.taken for part in self._parts)

    def take(self, before_ms: int) -> list[tuple[Payload, int, int]]:
        """The records that arrive earlier, as payloads with start and stop."""
        taken: list[tuple[Payload, int, int]] = []
        while self._parts and self.first_ms < before_ms:
            part = self._parts[0]
            stop = int(np.searchsorted(part.arrivals, before_ms))
            taken.append((part.payload, part.taken, stop))
            part.taken = stop
            if stop == len(part.arrivals):
                self._parts.popleft()
        return taken


@dataclass(frozen=True, slots=True)
class Answers:
    """Records of a `predictions` partition: their offsets, and the frames in each."""

    offsets: Ints
    frames: Sequence[Sequence[PredictionFrame]]


class Memory:
    """The latest score of each entity in a replay, in the place of the cache."""

    def __init__(self) -> None:
        self._latest: dict[str, Latest] = {}

    def recall(self, entities: Sequence[str]) -> list[Latest | None]:
        """See `combiner.decision.Decider`."""
        return [self._latest.get(entity) for entity in entities]

    def remember(self, outputs: Sequence[Output]) -> None:
        """Take in what was decided."""
        for output in outputs:
            self._latest.update(output.latest)


class Timeline:
    """All lanes of a replay, and the core they lead to.

    Args:
        core: a new one, with no partition open.
        memory: told what was decided.
        events: the input partitions, and the offset of the first event of each.
        answers: the `predictions` partitions.
        tick_ms: what arrives within so many milliseconds is seen together.
    """

    def __init__(
        self,
        core: Combiner,
        memory: Memory,
        events: Mapping[Place, int],
        answers: Sequence[Place],
        tick_ms: int,
    ) -> None:
        assert tick_ms > 0
        self._core = core
        self._memory = memory
        self._tick_ms = tick_ms
        self._now_ns = 0
        self.events: Mapping[Place, Lane[EventBlock]] = {place: Lane() for place in sorted(events)}
        self.answers: Mapping[Place, Lane[Answers]] = {place: Lane() for place in sorted(answers)}
        for place in self.events:
            # Nothing is backlog: the replay is there from the first record on.
            core.open(place, events[place])

    @property
    def lanes(self) -> list[Lane[Any]]:
        """All of them."""
        return [*self.events.values(), *self.answers.values()]

    @property
    def settled(self) -> bool:
        """Whether all events are read and decided."""
        return all(
            lane.ended and not len(lane) and not self._core.pending(place)
            for place, lane in self.events.items()
        )

    def play(self) -> list[Output]:
        """What is decided up to the moment until which all lanes are known; to the end at last."""
        known_ms = min(lane.known_until_ms for lane in self.lanes)
        outputs: list[Output] = []
        while True:
            first_ms = min(lane.first_ms for lane in self.lanes)
            end_ms = (first_ms // self._tick_ms + 1) * self._tick_ms
            if first_ms == _EVER or end_ms > known_ms:
                break
            outputs += self._wake(end_ms * NS_PER_MS)
            self._take_in(end_ms)
            outputs += self._advance(end_ms * NS_PER_MS)
        if known_ms == _EVER:
            outputs += self._wake(_EVER)
        return outputs

    def _wake(self, before_ns: int) -> list[Output]:
        """Let the core do what it wants to do by itself before more comes in."""
        outputs: list[Output] = []
        while (wake_ns := self._core.next_wake_ns()) is not None and wake_ns < before_ns:
            outputs += self._advance(max(wake_ns, self._now_ns))
        return outputs

    def _advance(self, now_ns: int) -> list[Output]:
        self._now_ns = now_ns
        outputs = self._core.advance(now_ns, WallMs(now_ns // NS_PER_MS))
        self._memory.remember(outputs)
        return outputs

    def _take_in(self, end_ms: int) -> None:
        now_ns = end_ms * NS_PER_MS
        for place, events in self.events.items():
            for block, start, stop in events.take(end_ms):
                self._core.add_events(place, block.take(np.arange(start, stop)), now_ns)
        for (_, partition), lane in self.answers.items():
            for answers, start, stop in lane.take(end_ms):
                offsets, records = answers.offsets[start:stop].tolist(), answers.frames[start:stop]
                frames = [
                    (offset, frame)
                    for offset, record in zip(offsets, records, strict=True)
                    for frame in record
                ]
                self._core.bad_frames["no frame"] += sum(not record for record in records)
                self._core.add_frames(partition, frames, now_ns)
