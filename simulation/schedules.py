"""Random schedules of one partition's join, each from its number: many small ones, and fast.

A schedule interleaves, in any order, events read, answers written and read (late, twice, before
their event, refused), time that passes, models that are waited for or not, judgements, commits,
and crashes after which the window is built anew from what was committed. After each step an
oracle (`simulation.oracle`) says what must have left. The whole pipeline, with processes and
faults around it, is the subject of `simulation.world`; here a step costs microseconds.
"""

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from combiner.ahead import MOST_BYTES, decode, encode
from combiner.answers import Cells
from combiner.join import JoinConfig
from combiner.quorum import ShareQuorum
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, Settled
from combiner.window import BadRecord, EventBlock, PartitionWindow
from simulation.oracle import (
    DEADLINE_NS,
    LIMIT_NS,
    MEMBERS,
    STALL_NS,
    UNCERTAIN,
    WEIGHTS,
    BrokenPromiseError,
    Event,
    Oracle,
)
from streams.events import BadEvent

# Numbers are thrown for many schedules at once, which is cheaper; schedule n has row n % ROWS.
_ROWS, _THROWS = 1024, 192
# Kinds of steps after which it is seen whether the join wants to be woken in time.
_WAKING = {1, 6, 8, 10, 11, 12}
_TICKS = (0, 1, 3, STALL_NS, DEADLINE_NS - 1, DEADLINE_NS, LIMIT_NS)
_SCORES = (0.25, 0.5, 0.75, math.nan)
_ROOMS = (11, 16, MOST_BYTES, MOST_BYTES)  # for one run of offsets, for three, for all
_SHARES = (0.0, 0.0, 0.5, 0.8)
_HEAVY: tuple[tuple[int, ...], ...] = ((), (), (2,), (0, 1))
_BAD = BadRecord(None, b"?", (), BadEvent(0, "NotJson", "it is not"))
_EVERYBODY = np.ones(MEMBERS, dtype=np.bool_)
_QUORUMS = {
    share: ShareQuorum(np.array(WEIGHTS), share, _EVERYBODY, 1) for share in _SHARES if share
}


class _Rule:
    """Asks as `simulation.oracle` says."""

    def __init__(self, heavy: tuple[int, ...]) -> None:
        self.heavy = np.isin(np.arange(MEMBERS), heavy)

    def escalates(
        self, scores: NDArray[np.float64], states: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        answered = (states == ANSWERED) & ~self.heavy
        unsure: NDArray[np.bool_] = (answered & (scores[:, :, 0] == UNCERTAIN)).any(axis=1)
        unsure |= ~answered.any(axis=1)
        return unsure


_CONFIGS = {
    (in_order, room, share, heavy): JoinConfig(
        MEMBERS, DEADLINE_NS, STALL_NS, LIMIT_NS, in_order, room, _QUORUMS.get(share),
        remembered=4, initial_rows=8, cascade=_Rule(heavy) if heavy else None,
    )
    for in_order in (True, False) for room in _ROOMS for share in _SHARES
    for heavy in _HEAVY if not (share and heavy)
}  # fmt: skip


class Dice:
    """The throws of one schedule; when they are used up they begin again."""

    def __init__(self, throws: list[int]) -> None:
        self._throws = throws
        self._at = -1

    def below(self, count: int) -> int:
        """A number from 0 up to, not including, `count`."""
        self._at = (self._at + 1) % _THROWS
        return self._throws[self._at] % count


class Schedule:
    """One schedule, from its dice."""

    def __init__(self, dice: Dice) -> None:
        below = self._below = dice.below
        self._in_order = below(2) == 0
        self._room = _ROOMS[below(len(_ROOMS))]
        share = _SHARES[below(len(_SHARES))]
        heavy = () if share else _HEAVY[below(len(_HEAVY))]
        self._config = _CONFIGS[(self._in_order, self._room, share, heavy)]
        events, offset = [], below(3)
        for _ in range(3 + below(6)):
            events.append(Event(offset, below(5) > 0))
            offset += 1 if below(4) else 3
        self._events = events
        self._end = offset
        self._oracle = Oracle(
            events,
            in_order=self._in_order,
            roomy=self._room == MOST_BYTES,
            share=share,
            heavy=heavy,
        )
        self._records: list[dict[int, Cells]] = []  # by member
        self._position, self._needed = (0, ""), 0
        self.counts: Counter[str] = Counter()
        self._begin()

    # -- lives -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A window from what was committed."""
        # What was there before is backlog: nothing, a part, or everything.
        self._backlog_below = (0, self._end // 2, self._end)[self._below(3)]
        self._window = PartitionWindow(self._config, _EVERYBODY, self._backlog_below)
        self._window.join.skip(decode(*self._position))
        self._next = sum(event.offset < self._position[0] for event in self._events)
        self._read = self._needed
        self._oracle.restart(self._needed)

    def _crash(self) -> None:
        """At once after a commit, or any time after it."""
        if self._below(2):
            self._commit()
        self.counts["crashes"] += 1
        self.counts["crashes with offsets ahead"] += bool(self._position[1])
        self._begin()

    def _commit(self) -> None:
        """Outcomes, and both positions, at once."""
        found = self._window.join.position()
        if found is None:
            return
        text = encode(*found)
        if len(text) > self._room:
            raise BrokenPromiseError(f"{len(text)} characters beside an offset: {text}")
        self._position = (found[0], text)
        needed = self._window.join.lowest_record()
        self._needed = self._read if needed is None else min(needed, self._read)
        self._oracle.commit()
        self.counts["commits"] += 1

    # -- steps -------------------------------------------------------------------------------

    def run(self) -> None:
        """All steps, and then everything comes to rest.

        Raises:
            BrokenPromiseError: a rule does not hold.
        """
        below = self._below
        for _ in range(6 + below(11)):
            kind = below(16)
            if self._step(kind):
                self._settle()
                if kind in _WAKING:
                    self._judge_wake()
        self._read_events(len(self._events))
        self._read_answers(len(self._records))
        self._oracle.now_ns += LIMIT_NS
        self._settle()
        self._commit()
        self._oracle.finish()

    def _step(self, kind: int) -> bool:
        """Do something; whether events may leave for it."""
        if kind < 3:
            return self._read_events(1 + self._below(4))
        if kind < 8:
            return self._answer()
        if kind < 10:
            return self._read_answers(1 + self._below(3))
        if kind < 12:
            self._oracle.now_ns += _TICKS[self._below(len(_TICKS))]
        elif kind == 12:
            mask = self._below(2**MEMBERS)
            expected = [bool(mask >> member & 1) for member in range(MEMBERS)]
            self._oracle.expected = expected
            self._window.join.set_expected(np.array(expected))
        elif kind == 13:
            self._window.join.judge(self._oracle.now_ns)
        elif kind == 14:
            self._commit()
        else:
            self._crash()
        return kind < 13

    def _read_events(self, count: int) -> bool:
        events = self._events[self._next : self._next + count]
        if not events:
            return False
        self._next += len(events)
        self._oracle.came(events, self._backlog_below)
        offsets = np.array([event.offset for event in events])
        names = [""] * len(events)
        bad = {place: _BAD for place, event in enumerate(events) if not event.good}
        keys: list[bytes | None] = [None] * len(events)
        self._window.add(
            EventBlock(offsets, names, keys, names, offsets, offsets, bad), self._oracle.now_ns
        )
        return True

    def _answer(self) -> bool:
        """A model writes, or all do in one record; mostly it is read at once."""
        member = self._below(MEMBERS)
        start = self._below(len(self._events))
        chosen = self._events[start : start + 1 + self._below(4)]
        if not self._below(4):
            chosen.reverse()
        offsets = [event.offset for event in chosen]
        if not self._below(6):
            offsets.append(offsets[0])  # twice in one frame
        if not self._below(6):
            offsets.append(self._end + 5)  # of an event that may never come
        first = self._below(4)
        record: dict[int, Cells] = {}
        writers = range(MEMBERS) if (start + first) % 3 == 0 else (member,)
        # Who refuses has a record of its own.
        kinds = len(_SCORES) - (len(writers) > 1)
        for who in writers:
            scores = [_SCORES[(first + who + place) % kinds] for place in range(len(offsets))]
            self._oracle.written(len(self._records), who, offsets, scores)
            record[who] = Cells(np.array(offsets), np.array(scores), len(self._records))
        self._records.append(record)
        return self._below(3) > 0 and self._read_answers(len(self._records))

    def _read_answers(self, count: int) -> bool:
        before = self._read
        for record in self._records[self._read : self._read + count]:
            if not self._add_together(record):
                self._add_each(record)
            self._read += 1
            self._oracle.heard(list(record))
        return self._read > before

    def _add_together(self, record: dict[int, Cells]) -> bool:
        """As a combiner does it where all answers of a record count as they are."""
        join, (first, *_) = self._window.join, record.values()
        scores = np.array([cells.scores for cells in record.values()])
        if len(record) == 1 or self._config.cascade is not None or np.isnan(scores).any():
            return False
        now_ns, members = self._oracle.now_ns, np.array(list(record))
        answers = join.add_together(members, first.offsets, scores, first.record, now_ns)
        self.counts["answers together"] += answers is not None
        return answers is not None

    def _add_each(self, record: dict[int, Cells]) -> None:
        for member, cells in record.items():
            answers = self._window.join.add_answers(member, cells, self._oracle.now_ns)
            self.counts["late answers"] += answers.late
            self.counts["early answers"] += answers.early
            self.counts["repeated answers"] += answers.duplicate

    def _settle(self) -> None:
        """Let go what goes, and have it judged."""
        self._oracle.ask()
        parts = self._window.settle(self._oracle.now_ns)
        escalated = [o for block in self._window.escalated for o in block.offsets.tolist()]
        if escalated != self._oracle.escalated:
            raise BrokenPromiseError(f"asked about {escalated}, and not {self._oracle.escalated}")
        self.counts["events escalated"] += len(escalated)
        if parts:
            offsets = [offset for part, _ in parts for offset in part.offsets.tolist()]
            events = self._oracle.left(offsets)
            self.counts["events left"] += len(events)
            self._judge_cells(parts[0][0] if len(parts) == 1 else None, events)
        else:
            self._oracle.left([])

    def _judge_wake(self) -> None:
        wakes_at, wake_ns = self._oracle.wakes_at(), self._window.join.next_wake_ns()
        if wakes_at not in {wake_ns, 0}:
            raise BrokenPromiseError(f"wants to be woken at {wake_ns}, and not {wakes_at}")

    def _judge_cells(self, settled: Settled | None, events: list[Event]) -> None:
        if settled is None:
            return
        answer = self._oracle.answer
        for event, states, scores in zip(
            events, settled.states.tolist(), settled.scores[:, :, 0].tolist(), strict=True
        ):
            for member, state in enumerate(states if event.good else ()):
                found = answer(event, member)
                said = state == ANSWERED and scores[member]
                refused = found is not None and math.isnan(found)
                if (found if not refused else None) != (said if state == ANSWERED else None):
                    raise BrokenPromiseError(f"{event.offset} left with {said} for {found}")
                if refused != (state == REFUSED):
                    raise BrokenPromiseError(f"{event.offset} left with states {states}")
                unasked = found is None and member in self._oracle.heavy and not event.asked
                if unasked != (state == NOT_ASKED):
                    raise BrokenPromiseError(f"{event.offset} left with states {states}")


def throws_of(number: int) -> list[int]:
    """The throws of one schedule."""
    throws: list[int] = _block(number // _ROWS)[number % _ROWS].tolist()
    return throws


def _block(number: int) -> NDArray[np.int64]:
    return np.random.default_rng([number, 3]).integers(0, 2**31, size=(_ROWS, _THROWS))


def run_schedule(number: int) -> Counter[str]:
    """Run one schedule again; raises as `Schedule.run`."""
    schedule = Schedule(Dice(throws_of(number)))
    schedule.run()
    return schedule.counts


def explore(first: int, count: int) -> tuple[Counter[str], tuple[int, str] | None]:
    """Run schedules `first` to `first + count - 1`; what happened, and what broke first."""
    counts: Counter[str] = Counter()
    block: list[list[int]] = []
    for number in range(first, first + count):
        if number == first or number % _ROWS == 0:
            block = _block(number // _ROWS).tolist()
        schedule = Schedule(Dice(block[number % _ROWS]))
        try:
            schedule.run()
        except AssertionError as error:
            return counts, (number, f"{type(error).__name__}: {error}")
        counts.update(schedule.counts)
    counts["schedules"] = count
    return counts, None
