"""A combiner process: what `combiner/service.py` does, around the same core."""

from collections.abc import Sequence
from functools import partial

from combiner.ahead import Runs, decode, run_of
from combiner.core import Combiner
from combiner.output import Output
from combiner.throttle import Throttle
from combiner.traces import newest_beyond, trace_of
from combiner.window import BadRecord, block_of
from simulation.faults import OLD_POSITION
from simulation.inputs import DECODER
from simulation.journal import Tenure
from simulation.log import RefusedError, UnstableError
from simulation.outbox import ENSEMBLE, Outbox, Shipment
from simulation.process import (
    DEAD_LETTERS,
    ESCALATIONS,
    PREDICTIONS,
    SCORED,
    KilledError,
    Process,
    Surroundings,
)
from streams.columns import Columns, Place, Position, columns_of
from streams.escalations import escalation_headers
from streams.frames import FrameError, PredictionFrame, decode_frames
from streams.instants import NS_PER_MS
from streams.records import Header

_IDLE_NS = 50 * NS_PER_MS
PACE_NS = 2 * NS_PER_MS
_COMMIT_EVERY_NS = 100 * NS_PER_MS
# Few enough that what piled up leaves in several.
_HANDFUL_EVENTS = 5


class CombinerProcess(Process):
    """One combiner with its consumer, its outbox and its core."""

    core: Combiner
    outbox: Outbox

    def __init__(self, around: Surroundings, name: str) -> None:
        super().__init__(around, name)
        self._group = around.groups["combiner"]
        self._partitions: list[int] = []
        self._generation = -1
        # Where it reads on; None where the broker has not said yet.
        self._positions: dict[Place, int | None] = {}
        self._tenures: dict[Place, Tenure] = {}
        self._waiting = Throttle(around.plan.max_pending)
        self._committed_ns = 0
        self._goes_back = False

    # -- life --------------------------------------------------------------------------------

    def begin(self) -> None:
        """Join the group with an empty window."""
        self._forget()
        self._goes_back = False
        self.core = self.around.build(self.around, self.monotonic_ns())
        self.outbox = Outbox(self, self, self._on_away)
        self._group.join(self)
        self.wake_at(self.around.clock.now_ns)

    def ended(self) -> None:
        """Windows and all that waits are gone."""
        self._forget()

    def woke(self) -> None:
        """A rebalance may have waited for it."""
        self._group.rebalance()

    def expelled(self) -> None:
        """Others get its partitions; it hears of that in its next turn."""
        self.around.counts["expelled"] += 1
        self._group.leave(self.name)

    def leave(self) -> None:
        """SIGTERM: publish, commit, go."""
        if self.present:
            self.revoke(orderly=True)
        if self.alive:
            self._group.leave(self.name)
            self.down_for_good = True
            self.kill()

    def _forget(self) -> None:
        self._partitions, self._positions, self._tenures = [], {}, {}
        self._waiting.paused.clear()

    # -- partitions come and go --------------------------------------------------------------

    def assign(self, partitions: list[int], generation: int) -> None:
        """These are ours."""
        self._partitions, self._generation = partitions, generation
        self._open()

    def _open(self) -> None:
        around = self.around
        self._waiting.paused.clear()
        for partition in self._partitions:
            self._positions[(PREDICTIONS, partition)] = None
            for topic in around.plan.inputs:
                place = (topic, partition)
                self._positions[place] = None
                below = around.log.high_watermark(place)
                self.core.open(place, below)
                self._tenures[place] = around.journal.open(self.name, place, below)
        self.wake_at(around.clock.now_ns)

    def revoke(self, *, orderly: bool = False) -> None:
        """Finish and commit what has left; what waits is read again by the next owner."""
        try:
            if orderly or not self.around.happens("no drain"):
                self.outbox.drain()
            if self.outbox.unpublished:
                self.outbox.abandon()
            self._commit()
        except KilledError:
            self.kill()
        self._close()

    def _close(self) -> None:
        for place in self._tenures:
            self.core.close(place)
        self._forget()

    def _on_away(self) -> None:
        """No broker answers: soon nothing since the last commit counts."""
        self.outbox.abandon()
        self._goes_back = True
        self.after(self.around.some_ns(1, 400), self._rewind)

    def _rewind(self) -> None:
        """Nothing since the last commit counts."""
        self.around.counts["rewinds"] += 1
        self._goes_back = False
        self.outbox = Outbox(self, self, self._on_away)
        partitions = self._partitions
        self._close()
        self._partitions = partitions
        self._open()

    # -- the loop ----------------------------------------------------------------------------

    def turn(self) -> None:
        """Fetch, decide, ship."""
        if self._goes_back:
            return
        now_ns = self.around.clock.now_ns
        if not self._group.owns(self, self._generation) and not self._lost():
            return
        fetched = self._fetch()
        self.step("fetched")
        self._let_go()
        if now_ns - self._committed_ns >= _COMMIT_EVERY_NS:
            self._committed_ns = now_ns
            self._commit()
        self._balance()
        self.wake_at(now_ns + (PACE_NS if fetched else self._idle_ns()))

    def _let_go(self) -> None:
        """Decide and ship what leaves now, a handful at a time."""
        handful = _HANDFUL_EVENTS
        while handful == _HANDFUL_EVENTS:
            left = self.core.advance(
                self.monotonic_ns(), self.around.clock.wall_ms(), _HANDFUL_EVENTS
            )
            handful = sum(map(len, left))
            self._escalate()
            if self.outbox.failed:
                self._rewind()
                return
            if left:
                self._ship(left)

    def _ship(self, left: Sequence[Output]) -> None:
        outputs = [(self._tenures[output.place], output) for output in left]
        for tenure, output in outputs:
            self._note(tenure, output.dead, [value for _, value in output.scored])
        positions = dict(self.core.input_positions())
        for partition, offset in self.core.prediction_positions().items():
            positions[(PREDICTIONS, partition)] = Position(offset)
        ahead = any(position.metadata for position in positions.values())
        self.around.counts["commits with offsets ahead"] += ahead
        numbered = [(tenure.number, output) for tenure, output in outputs]
        self.outbox.ship(Shipment(numbered, positions, self._generation))

    def _escalate(self) -> None:
        """Put out what heavy models must be asked about; it may be lost, or arrive twice."""
        around = self.around
        if not self.core.escalated:
            return
        self.step("escalated")
        for (topic, partition), block in self.core.escalated:
            tenure = self._tenures[(topic, partition)]
            for row, offset in enumerate(block.offsets.tolist()):
                around.counts["escalated"] += 1
                tenure.asked[offset] = around.clock.now_ns
                if around.happens("lost"):
                    around.journal.lost.add((topic, partition, offset))
                    continue
                assert block.values is not None
                headers = escalation_headers((topic, partition), offset, int(block.record_ms[row]))
                put_out = partial(
                    self._put_out, partition, block.keys[row], block.values[row], headers
                )
                for _ in range(1 + around.happens("duplicated")):
                    around.agenda.after(around.some_ns(0.1, 2), put_out)

    def _put_out(
        self, partition: int, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> None:
        self.around.log.append((ESCALATIONS, partition), key, value, headers)

    def _lost(self) -> bool:
        """Somebody else has the partitions, or nobody yet; whether we are in the group again."""
        self.around.counts["partitions lost"] += 1
        self.revoke()
        if self.alive:
            self._group.join(self)
        return self.alive and self._group.owns(self, self._generation)

    def _idle_ns(self) -> int:
        wake_ns = self.core.next_wake_ns()
        if wake_ns is None:
            return _IDLE_NS
        return min(max(wake_ns - self.monotonic_ns(), NS_PER_MS), _IDLE_NS)

    def _commit(self) -> None:
        positions = self.outbox.acknowledged()
        if positions and self._group.owns(self, self._generation):
            try:
                self.around.log.commit(self._group.name, positions)
            except RefusedError:
                self.around.counts["commits refused"] += 1  # the client only says so
            self.step("acknowledged")

    def _note(self, tenure: Tenure, dead: list[tuple[int, BadRecord]], scored: list[bytes]) -> None:
        """Write into the journal which events left."""
        now_ns = self.around.clock.now_ns
        for offset, _ in dead:
            tenure.leave(offset, now_ns)
        for value in scored:
            source = value[value.rindex(b'"source":"') + 10 :].split(b'"', 1)[0]
            tenure.leave(int(source.rpartition(b"/")[2]), now_ns)

    # -- what comes in -----------------------------------------------------------------------

    def _fetch(self) -> int:
        """Events first, as the service does."""
        events: list[Columns] = []
        answers: list[tuple[int, int, Columns | None]] = []
        for place in list(self._positions):
            position = self._position(place)
            if position is None or place in self._waiting.paused:
                continue
            limit = 2 if self.around.happens("partial fetch") else 2000
            records, behind = self.around.log.read(place, position, limit)
            self._positions[place] = behind
            columns = columns_of(records)[0] if records else None
            if place[0] == PREDICTIONS:
                answers.append((position, behind, columns))
            elif columns is not None:
                events.append(columns)
        for columns in events:
            self._add_events(columns)
        for position, behind, found in answers:
            if found is not None:
                self._add_frames(position, behind, found)
        return len(events) + sum(found is not None for _, _, found in answers)

    def _position(self, place: Place) -> int | None:
        position = self._positions[place]
        if position is None:
            try:
                found = self.around.log.committed(self._group.name, place, self._age())
            except UnstableError:
                self.around.counts["positions inside a transaction"] += 1
                return None
            position = self._positions[place] = found.offset
            if place[0] != PREDICTIONS:
                self.around.counts["went on with offsets ahead"] += bool(found.metadata)
                self._tenures[place].began = found
                self.core.skip(place, self._gone(place, found))
        return position

    def _age(self) -> int:
        """How many commits the broker is behind with its answer."""
        old = self.around.happens(OLD_POSITION)
        return int(self.around.dice.integers(1, 20)) if old else 0

    def _gone(self, place: Place, found: Position) -> Runs:
        """What left above the position, by what stands beside it or by the outcomes."""
        known = decode(*found)
        if not self.around.plan.rate(OLD_POSITION):
            return known
        outcomes = [
            trace
            for topic in (SCORED, DEAD_LETTERS)
            for entry in self.around.log.committed_records(topic)
            if (trace := trace_of(entry, ENSEMBLE.partition("@")[0])) and trace.place == place
        ]
        newest = newest_beyond(found.offset, known, outcomes)
        if newest is None:
            return known
        self.around.counts["skipped what was published"] += 1
        return run_of(found.offset, newest.offset + 1)

    def _add_events(self, columns: Columns) -> None:
        tenure, now_ns = self._tenures[columns.place], self.around.clock.now_ns
        for offset in columns.offsets.tolist():
            tenure.seen[offset] = (now_ns, offset < tenure.backlog_below)
        block = block_of(DECODER, columns, whole=bool(self.around.plan.heavy))
        self.core.add_events(columns.place, block, self.monotonic_ns())

    def _add_frames(self, position: int, behind: int, columns: Columns) -> None:
        partition = columns.place[1]
        frames: list[tuple[int, PredictionFrame]] = []
        for offset, value in zip(columns.offsets.tolist(), columns.values, strict=True):
            try:
                frames += [(offset, frame) for frame in decode_frames(value)]
            except FrameError:
                self.core.bad_frames["no frame"] += 1
        self.core.add_frames(partition, frames, self.monotonic_ns())
        self.core.skip_frames(partition, int(columns.offsets[-1]) + 1)
        for topic in self.around.plan.inputs:
            tenure = self._tenures[(topic, partition)]
            tenure.reads.append((self.around.clock.now_ns, position, behind))

    # -- pace --------------------------------------------------------------------------------

    def _balance(self) -> None:
        blocked = self.outbox.unpublished > self.around.plan.max_pending
        waiting = {place: self.core.span(place) for place in self._tenures}
        stop, go = self._waiting.judge(waiting, blocked=blocked)
        self.around.counts["back-pressure"] += len(stop)
        for place in go:
            below = self._tenures[place].backlog_below = self.around.log.high_watermark(place)
            self.core.set_backlog(place, below)

    def reads(self, place: Place) -> bool:
        """Whether it is ours and not paused."""
        return place in self._positions and place not in self._waiting.paused
