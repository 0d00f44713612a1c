"""A worker process: what feed and lanes do, around the same mailbox, judgement and tracker."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from combiner.intake import Member
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
from streams.frames import PredictionFrame, encode_frame
from streams.instants import NS_PER_MS
from workers.batching import BatchLimit, Mailbox, MicroBatch, RecordBatch
from workers.scoring import Scores, called, score
from workers.tracking import CommitTracker

_COMMIT_EVERY_NS = 200 * NS_PER_MS
_PACE_NS = 2 * NS_PER_MS
_MAX_ROWS = 512


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
            for lane in self._lanes:
                lane.mailbox.put(batch)
                if not lane.busy:
                    self._drive(lane, self._work(lane))

    def reads(self, place: Place) -> bool:
        """Whether it is an input of ours; what comes in a stream is taken in handfuls."""
        return place in self._positions

    # -- the models --------------------------------------------------------------------------

    def _drive(self, lane: _Lane, dialogue: Dialogue) -> None:
        delay_ns = next(dialogue, None)
        lane.busy = delay_ns is not None
        if delay_ns is not None:
            self.after(delay_ns, lambda: self._drive(lane, dialogue))

    def _work(self, lane: _Lane) -> Dialogue:
        """Take what waits until nothing does."""
        around, member = self.around, lane.member
        while len(lane.mailbox):
            batch = lane.mailbox.take(lane.limit.rows)
            took_ns = around.some_ns(0.3, 4)
            if around.happens("slow"):
                took_ns += around.some_ns(0, 4 * around.plan.deadline_ms)
            silent_ns = around.silent_until_ns.get(member.name, 0) - around.clock.now_ns
            yield max(0, silent_ns) + took_ns
            ask = partial(called, partial(_answers, member), columns=member.columns)
            found = score(ask, batch.matrix, member.minimum, member.maximum, member.columns)
            lane.limit.observe(len(batch), took_ns)
            self.step("scored")
            self._publish(member, batch, found)

    def _publish(self, member: Member, batch: MicroBatch, scores: Scores) -> None:
        for parts, rows, offsets in batch.places:
            refusals = {
                place: scores.refusals[row]
                for place, row in enumerate(rows.tolist())
                if row in scores.refusals
            }
            frame = PredictionFrame(
                member.name, member.version, parts[0].topic, parts[0].partition,
                offsets, scores.values[rows], refusals,
            )  # fmt: skip
            self._send(frame)
            self.step("produced")
            tickets = [(part.ticket, len(part)) for part in parts]
            self.after(self.around.some_ns(0.2, 3), partial(self._acknowledge, tickets))

    def _acknowledge(self, tickets: list[tuple[int, int]]) -> None:
        for ticket, rows in tickets:
            self._tracker.acknowledge(ticket, rows)

    def _send(self, frame: PredictionFrame) -> None:
        """To the log, by the ways that faults take."""
        around = self.around
        place = (PREDICTIONS, frame.partition)
        key, value = frame.model.encode(), encode_frame(frame)

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
            again = encode_frame(_other_answers(frame, around.dice))
            around.agenda.after(around.some_ns(0, 200), lambda: append(again))


def _answers(member: Member, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = predict(member.name, matrix)
    return scores if member.columns == 1 else shares(scores)


def _other_answers(frame: PredictionFrame, dice: np.random.Generator) -> PredictionFrame:
    """Other scores for some of a frame's events, in another order; none of them may count."""
    offsets = frame.offsets[int(dice.integers(len(frame.offsets))) :][::-1]
    scores = np.full(len(offsets), dice.random())
    if frame.scores.ndim > 1:
        scores = shares(scores)
    return PredictionFrame(
        frame.model, frame.version, frame.topic, frame.partition, offsets, scores
    )
