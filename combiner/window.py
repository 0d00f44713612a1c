"""The events that wait in one partition: their rows in the join, and what the score must carry."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from combiner.answers import Answers
from combiner.escalating import EscalatingJoin
from combiner.facts import Facts, FactsWanted, facts_of, joined_facts
from combiner.join import CHUNK_ROWS, DeadlineJoin
from combiner.limits import NO_LIMIT, JoinConfig
from combiner.settled import Settled
from streams.columns import Columns
from streams.events import BadEvent, EventDecoder
from streams.headers import NO_HEADERS, HeaderFilter
from streams.records import Header

# Answers are read a few million events ahead of their events at most, then reading pauses; beyond
# this they would only be held for ever, and keep the committed position where it is.
FAR_AHEAD = 10_000_000

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """An event that cannot be scored, as it came, and why."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    why: BadEvent


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Consecutive events of one partition, good and bad, in input order.

    Lists and arrays have one entry per event; those of a bad event are empty, its place is in
    `bad`. `headers` are those that go on to the score, by place, where there are any; `facts`
    are there where somebody wants them. So are `values`, as the events came; some of the events
    have theirs too, several blocks together have not.
    """

    offsets: Ints
    ids: list[str]
    keys: list[bytes | None]
    entities: list[str]
    time_ms: Ints
    record_ms: Ints
    bad: dict[int, BadRecord]
    headers: Mapping[int, Sequence[Header]] = field(default_factory=dict)
    facts: Facts | None = None
    values: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def headers_of_good(self) -> dict[int, Sequence[Header]]:
        """The headers that go on to the scores, by the event's place among the good ones."""
        if not self.headers:
            return {}
        good = [place for place in range(len(self)) if place not in self.bad]
        return {at: self.headers[place] for at, place in enumerate(good) if place in self.headers}

    def take(self, which: Ints) -> "EventBlock":
        """The events at some ascending places."""
        if len(which) == len(self):
            return self
        start, stop = int(which[0]), int(which[-1]) + 1
        if stop - start == len(which):
            return self._part(start, stop)
        chosen = which.tolist()
        return EventBlock(
            self.offsets[which],
            [self.ids[place] for place in chosen],
            [self.keys[place] for place in chosen],
            [self.entities[place] for place in chosen],
            self.time_ms[which],
            self.record_ms[which],
            {at: self.bad[place] for at, place in enumerate(chosen) if place in self.bad},
            {at: self.headers[place] for at, place in enumerate(chosen) if place in self.headers},
            None if self.facts is None else self.facts.take(which),
            None if self.values is None else [self.values[place] for place in chosen],
        )

    def _part(self, start: int, stop: int) -> "EventBlock":
        bad = {place - start: why for place, why in self.bad.items() if start <= place < stop}
        return EventBlock(
            self.offsets[start:stop],
            self.ids[start:stop],
            self.keys[start:stop],
            self.entities[start:stop],
            self.time_ms[start:stop],
            self.record_ms[start:stop],
            bad,
            {at - start: found for at, found in self.headers.items() if start <= at < stop},
            None if self.facts is None else self.facts.take(np.arange(start, stop)),
            None if self.values is None else self.values[start:stop],
        )


def joined_blocks(blocks: Sequence[EventBlock]) -> EventBlock:
    """Several blocks, of any partitions, one behind the other."""
    if len(blocks) == 1:
        return blocks[0]
    bad: dict[int, BadRecord] = {}
    headers: dict[int, Sequence[Header]] = {}
    start = 0
    for block in blocks:
        bad |= {start + place: why for place, why in block.bad.items()}
        headers |= {start + place: found for place, found in block.headers.items()}
        start += len(block)
    return EventBlock(
        np.concatenate([block.offsets for block in blocks]),
        list(chain.from_iterable(block.ids for block in blocks)),
        list(chain.from_iterable(block.keys for block in blocks)),
        list(chain.from_iterable(block.entities for block in blocks)),
        np.concatenate([block.time_ms for block in blocks]),
        np.concatenate([block.record_ms for block in blocks]),
        bad,
        headers,
        joined_facts([block.facts for block in blocks]),
    )


def block_of(
    decoder: EventDecoder,
    columns: Columns,
    passing: HeaderFilter = NO_HEADERS,
    wanted: FactsWanted | None = None,
    *,
    whole: bool = False,
) -> EventBlock:
    """Decode consecutive records of one partition.

    Args:
        decoder: from values to events.
        columns: the records.
        passing: which of their headers go on to the scores.
        wanted: what else somebody wants to know of the events.
        whole: whether their values are kept, too.
    """
    where = "/".join(map(str, columns.place))
    offsets, keys = columns.offsets, columns.keys
    decoded = decoder.decode(
        columns.values, keys, columns.timestamps_ms, lambda row: f"{where}/{offsets[row]}"
    )
    time_ms = columns.timestamps_ms.copy()
    time_ms[decoded.positions] = decoded.time_ms
    facts = None if wanted is None else facts_of(wanted, decoded, columns, time_ms)
    values = columns.values if whole else None
    if not decoded.bad:
        return EventBlock(
            offsets, decoded.ids, keys, decoded.entities, decoded.time_ms,
            columns.timestamps_ms, {}, _headers(columns, passing), facts, values,
        )  # fmt: skip
    ids, entities = [""] * len(offsets), [""] * len(offsets)
    for place, id_, entity in zip(
        decoded.positions.tolist(), decoded.ids, decoded.entities, strict=True
    ):
        ids[place], entities[place] = id_, entity
    bad = {
        why.position: BadRecord(
            keys[why.position], columns.values[why.position], columns.headers(why.position), why
        )
        for why in decoded.bad
    }
    headers = _headers(columns, passing)
    return EventBlock(
        offsets, ids, keys, entities, time_ms, columns.timestamps_ms, bad, headers, facts, values
    )


def _headers(columns: Columns, passing: HeaderFilter) -> dict[int, Sequence[Header]]:
    """What passes, by row; most events have none."""
    if not passing:
        return {}
    return {
        row: kept
        for row, message in enumerate(columns.messages)
        if (found := message.headers()) and (kept := passing(found))
    }


class PartitionWindow:
    """A join, and beside it the events in the same order.

    `backlog_below` is the offset up to which the topic was filled before its reader came: events
    below it are backlog (see `combiner.join`). `escalated` has, by block, the events of the last
    `settle` about which heavy models must be asked.
    """

    def __init__(self, config: JoinConfig, expected: Bools, backlog_below: int) -> None:
        kind = DeadlineJoin if config.cascade is None else EscalatingJoin
        self.join: DeadlineJoin = kind(config, expected)
        self.escalated: list[EventBlock] = []
        self.backlog_below = backlog_below
        self._blocks: deque[EventBlock] = deque()
        self._first = 0  # number of the row of the first block's first event

    def add(self, block: EventBlock, now_ns: int) -> Answers:
        """Let a block of events wait."""
        if len(block) == 0:
            return Answers()
        scoreable = np.ones(len(block), dtype=np.bool_)
        scoreable[list(block.bad)] = False
        self._blocks.append(block)
        return self.join.add_events(block.offsets, scoreable, self.backlog_below, now_ns)

    @property
    def horizon(self) -> int:
        """Offsets from here on are of no event that exists: somebody made them up."""
        return max(self.join.last_offset, self.backlog_below) + FAR_AHEAD

    def settle(self, now_ns: int, limit: int = NO_LIMIT) -> list[tuple[Settled, EventBlock]]:
        """What leaves now; each part in the order of its events, and with them.

        At most `limit` rows leave in one call; if fewer do, no more can leave at this instant.
        """
        parts: list[tuple[Settled, EventBlock]] = []
        while chunk := min(limit, CHUNK_ROWS):
            settled = self.join.settle(now_ns, chunk)
            if settled is None:
                break
            block = self._events_of(settled.numbers)
            assert np.array_equal(block.offsets, settled.offsets), "events and rows walk in step"
            parts.append((settled, block))
            if len(settled) < chunk:
                break
            limit -= chunk
        if isinstance(self.join, EscalatingJoin):
            self.escalated = list(self._blocks_of(self.join.take_escalated()))
        self._forget()
        return parts

    def _events_of(self, numbers: Ints) -> EventBlock:
        """The events of some rows, by ascending numbers."""
        return joined_blocks(list(self._blocks_of(numbers)))

    def _blocks_of(self, numbers: Ints) -> Iterator[EventBlock]:
        """The same, as parts of the blocks in which they came."""
        first, taken = self._first, 0
        for block in self._blocks:
            stop = taken + int(np.searchsorted(numbers[taken:], first + len(block)))
            if stop > taken:
                yield block.take(numbers[taken:stop] - first)
            first, taken = first + len(block), stop
            if taken == len(numbers):
                break

    def _forget(self) -> None:
        """Drop the blocks of which everything has left."""
        oldest = self.join.oldest
        while self._blocks and self._first + len(self._blocks[0]) <= oldest:
            self._first += len(self._blocks.popleft())
