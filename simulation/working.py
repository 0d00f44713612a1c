"""A worker process: what feed and lanes do, around the same mailbox, judgement and tracker."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from combiner.intake import Member
from simulation.faults import ROUND
from simulation.inputs import DECODER, predict, shares
from simulation.process import (
    ESCALATIONS,
    PREDICTIONS,
    Dialogue,
    KilledError,
    Process,
    Surroundings,
)
from streams.columns import Columns, Place, Position, columns_of
from streams.escalations import Origins
from streams.frames import PredictionFrame, encode_frames
from streams.instants import NS_PER_MS
from workers.batching import BatchLimit, Mailbox, MicroBatch, RecordBatch
from workers.scoring import Scores, called, score
from workers.tracking import CommitTracker

_COMMIT_EVERY_NS = 200 * NS_PER_MS
_PACE_NS = 2 * NS_PER_MS
_MAX_ROWS = 512
# After so long the others of a round go on in threads of their own.
_LONG_CALL_NS = 10 * NS_PER_MS

# What some models say of the rows of a batch.
_Said = list[tuple[Member, Scores]]


@dataclass(slots=True)
class _Lane:
    member: Member
    mailbox: Mailbox = field(default_factory=Mailbox)
    limit: BatchLimit = field(default_factory=lambda: BatchLimit(_MAX_ROWS))
    busy: bool = False


class WorkerProcess(Process):
    """One worker with its models, each with a mailbox and a call at a time."""

    def __init__(self, around: Surroundings, name: str, models: tuple[str, ...]) -> None:
        super().__init__(around, name)
        self._group = around.groups[name]
        self._hosted = [member for member in around.plan.members if member.name in models]
        self._topics = (ESCALATIONS,) if models[0] in around.plan.heavy else around.plan.inputs
        self._generation = -1
        self._positions: dict[Place, int] = {}
        self._tracker = CommitTracker()
        self._lanes: list[_Lane] = []
        self._committed_ns = 0

    # -- life --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Join the group with nothing in hand."""
        self._tracker = CommitTracker()
        self._lanes = [_Lane(member) for member in self._hosted]
        self._group.join(self)

    def woke(self) -> None:
        """A rebalance may have waited for it."""
        self._group.rebalance()

    def expelled(self) -> None:
        """It hears of that in its next turn."""
        self._group.leave(self.name)

    def assign(self, partitions: list[int], generation: int) -> None:
        """Read from what was committed."""
        self._generation = generation
        places = [(topic, partition) for partition in partitions for topic in self._topics]
        committed = self.around.log.committed
        self._positions = {place: committed(self._group.name, place).offset for place in places}
        self.wake_at(self.around.clock.now_ns)

    def revoke(self) -> None:
        """Commit what is answered, and forget the rest."""
        try:
            self._commit()
        except KilledError:
            self.kill()
        for place in self._positions:
            self._tracker.forget(place)
        self._positions = {}

    # -- the feed ----------------------------------------------------------------------------

    def turn(self) -> None:
        """Fetch and hand over; commit what all models have answered."""
        now_ns = self.around.clock.now_ns
        if not self._group.owns(self, self._generation):
            self.revoke()
            if self.alive:
                self._group.join(self)
        for place, position in list(self._positions.items()):
            records, behind = self.around.log.read(place, position, 2000)
            self._positions[place] = behind
            for columns in columns_of(records):
                self._hand_over(columns)
        self.step("fetched")
        if now_ns - self._committed_ns >= _COMMIT_EVERY_NS:
            self._committed_ns = now_ns
            self._commit()
        self.wake_at(now_ns + _COMMIT_EVERY_NS)

    def _commit(self) -> None:
        positions = self._tracker.take_positions()
        if positions and self._group.owns(self, self._generation):
            committed = {place: Position(offset) for place, offset in positions.items()}
            self.around.log.commit(self._group.name, committed)
            self.step("committed")

    def _hand_over(self, columns: Columns) -> None:
        decoded = DECODER.decode(columns.values, columns.keys, columns.timestamps_ms, lambda _: "-")
        (topic, partition), received_ns = columns.place, self.monotonic_ns()
        answers = len(decoded.positions) * len(self._lanes)
        ticket = self._tracker.open(columns.place, int(columns.offsets[-1]) + 1, answers)
        groups = [(topic, columns.offsets[decoded.positions], np.arange(len(decoded.positions)))]
        if topic == ESCALATIONS:
            groups = list(Origins(columns).groups(decoded.positions))
        for topic, offsets, rows in groups:
            matrix = decoded.matrix[rows]
            batch = RecordBatch(topic, partition, offsets, matrix, received_ns, ticket)
            free = [lane for lane in self._lanes if not lane.busy]
            together = free if len(batch) and len(free) > 1 and self.around.happens(ROUND) else []
            for lane in self._lanes:
                if lane not in together:
                    self._wait_for(lane, batch)
            if together:
                for lane in together:
                    lane.busy = True
                self._drive(self._round(together, MicroBatch((batch,), batch.matrix)))

    def reads(self, place: Place) -> bool:
        """Whether it is an input of ours; what comes in a stream is taken in handfuls."""
        return place in self._positions

    # -- the models --------------------------------------------------------------------------

    def _drive(self, dialogue: Dialogue) -> None:
        delay_ns = next(dialogue, None)
        if delay_ns is not None:
            self.after(delay_ns, lambda: self._drive(dialogue))

    def _wait_for(self, lane: _Lane, batch: RecordBatch) -> None:
        lane.mailbox.put(batch)
        if not lane.busy:
            lane.busy = True
            self._drive(self._work(lane))

    def _work(self, lane: _Lane) -> Dialogue:
        """Take what waits until nothing does."""
        while len(lane.mailbox):
            batch = lane.mailbox.take(lane.limit.rows)
            took_ns = self._call_ns(lane.member)
            yield took_ns
            lane.limit.observe(len(batch), took_ns)
            self._publish(batch, [(lane.member, self._asked(lane.member, batch))])
        lane.busy = False

    def _round(self, lanes: Sequence[_Lane], batch: MicroBatch) -> Dialogue:
        """One after the other on one thread; behind a long call on their own."""
        waiting, answered = deque(lanes), []
        said: _Said = []
        while waiting:
            lane = waiting.popleft()
            took_ns = self._call_ns(lane.member)
            if took_ns > _LONG_CALL_NS:
                for other in waiting:
                    other.busy = False
                    for part in batch.parts:
                        self._wait_for(other, part)
                waiting.clear()
            yield took_ns
            said.append((lane.member, self._asked(lane.member, batch)))
            answered.append(lane)
        self._publish(batch, said)
        for lane in answered:
            self._drive(self._work(lane))

    def _call_ns(self, member: Member) -> int:
        """How long a call lasts."""
        around = self.around
        took_ns = around.some_ns(0.3, 4)
        if around.happens("slow"):
            took_ns += around.some_ns(0, 4 * around.plan.deadline_ms)
        silent_ns = around.silent_until_ns.get(member.name, 0) - around.clock.now_ns
        return max(0, silent_ns) + took_ns

    def _asked(self, member: Member, batch: MicroBatch) -> Scores:
        ask = partial(called, partial(_answers, member), columns=member.columns)
        found = score(ask, batch.matrix, member.minimum, member.maximum, member.columns)
        self.step("scored")
        return found

    def _publish(self, batch: MicroBatch, said: _Said) -> None:
        """Models without refusals share a record, and the others do."""
        refusing = [(member, scores) for member, scores in said if scores.refusals]
        together = [(member, scores) for member, scores in said if not scores.refusals]
        for answers in filter(None, (together, refusing)):
            for parts, rows, offsets in batch.places:
                frames = [
                    PredictionFrame(
                        member.name, member.version, parts[0].topic, parts[0].partition, offsets,
                        scores.values[rows], scores.refusals_of(rows),
                    )
                    for member, scores in answers
                ]  # fmt: skip
                self._send(frames)
                self.step("produced")
                tickets = [(part.ticket, len(part) * len(answers)) for part in parts]
                self.after(self.around.some_ns(0.2, 3), partial(self._acknowledge, tickets))

    def _acknowledge(self, tickets: list[tuple[int, int]]) -> None:
        for ticket, rows in tickets:
            self._tracker.acknowledge(ticket, rows)

    def _send(self, frames: Sequence[PredictionFrame]) -> None:
        """One record to the log, by the ways that faults take."""
        around = self.around
        place = (PREDICTIONS, frames[0].partition)
        key, value = ",".join(frame.model for frame in frames).encode(), encode_frames(frames)

        def append(value: bytes) -> None:
            around.log.append(place, key, value)

        if around.happens("lost"):
            return
        if around.happens("delayed"):
            delay_ns = around.some_ns(0.5, 3 * around.plan.deadline_ms)
            around.agenda.after(delay_ns, lambda: append(value))
        else:
            append(value)
        if around.happens("duplicated"):
            again = encode_frames(_other_answers(frames, around.dice))
            around.agenda.after(around.some_ns(0, 200), lambda: append(again))


def _answers(member: Member, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = predict(member.name, matrix)
    return scores if member.columns == 1 else shares(scores)


def _other_answers(
    frames: Sequence[PredictionFrame], dice: np.random.Generator
) -> list[PredictionFrame]:
    """Other scores for some of a record's events, in another order; none of them may count."""
    offsets = frames[0].offsets[int(dice.integers(len(frames[0].offsets))) :][::-1]
    others = []
    for frame in frames:
        scores = np.full(len(offsets), dice.random())
        if frame.scores.ndim > 1:
            scores = shares(scores)
        others.append(
            PredictionFrame(
                frame.model, frame.version, frame.topic, frame.partition, offsets, scores
            )
        )
    return others
