"""The combiner's way out, step by step: the order of requests is that of `combiner/outbox.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from combiner.output import Output
from simulation.faults import MARKERS_SKIPPED
from simulation.group import GroupMember
from simulation.log import RefusedError, Transaction
from simulation.process import DEAD_LETTERS, SCORED, Dialogue, Process
from streams.columns import Place, Position
from streams.instants import NS_PER_MS
from streams.records import dead_letter_headers

ENSEMBLE = "simulated@1"
# Longer than a commit, shorter than a broker's restart.
_BELIEVED_NS = 50 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Shipment:
    """Outputs with the tenure of each, and the positions that hold once they have left."""

    outputs: list[tuple[int, Output]]
    positions: Mapping[Place, Position]
    generation: int


class Outbox:
    """Publishes in order; one dialogue at a time, what comes meanwhile leaves with the next.

    Args:
        process: whose it is.
        member: the same, as its group knows it.
        told_away: called when the process notices that no broker answers.
    """

    def __init__(
        self, process: Process, member: GroupMember, told_away: Callable[[], None]
    ) -> None:
        around = process.around
        self.failed = False
        self.unpublished = 0
        self._process, self._member, self._around = process, member, around
        self._told_away = told_away
        self._group = around.groups["combiner"]
        self._waiting: list[Shipment] = []
        self._dialogue: Dialogue | None = None
        self._acknowledged: dict[Place, Position] = {}
        self._exactly_once = around.plan.delivery == "exactly_once"
        if self._exactly_once:
            self._epoch = around.log.begin_epoch(process.name)
            self._give_up_what_hangs()

    def _give_up_what_hangs(self) -> None:
        """Begin a transaction in all partitions, and over the group's positions, and abort it."""
        log, plan, name = self._around.log, self._around.plan, self._process.name
        transaction = log.begin(name, self._epoch)
        for place in [(DEAD_LETTERS, 0), *((SCORED, p) for p in range(plan.partitions))]:
            log.append(place, b"", b"", transaction=transaction)
        nothing = {(plan.inputs[0], 0): Position(0)}
        log.send_positions(name, self._epoch, self._group.name, nothing)
        log.end(name, self._epoch, "aborted")

    # -- the join's side ---------------------------------------------------------------------

    def ship(self, shipment: Shipment) -> None:
        """Hand over."""
        self._waiting.append(shipment)
        self.unpublished += sum(len(output) for _, output in shipment.outputs)
        self._process.step("shipped")
        if self._dialogue is None:
            self._next()

    def acknowledged(self) -> dict[Place, Position]:
        """At least once: positions that became safe since the last call."""
        positions, self._acknowledged = self._acknowledged, {}
        return positions

    def drain(self) -> None:
        """Publish all that was shipped, without letting time pass."""
        while self._dialogue is not None and not self.failed:
            self._advance(self._dialogue, wait=False)

    def abandon(self) -> None:
        """Take back what has not left: it would count under a group that has moved on."""
        self._waiting = []
        self.failed = True

    # -- the thread's side -------------------------------------------------------------------

    def _next(self) -> None:
        if self._waiting and not self.failed:
            load, self._waiting = self._waiting, []
            self._dialogue = self._transact(load) if self._exactly_once else self._publish(load)
            self._wait(self._dialogue, self._around.some_ns(0.05, 0.5))

    def _wait(self, dialogue: Dialogue, delay_ns: int) -> None:
        self._process.after(delay_ns, lambda: self._advance(dialogue, wait=True))

    def _advance(self, dialogue: Dialogue, *, wait: bool) -> None:
        if dialogue is not self._dialogue or self.failed:
            return
        try:
            delay_ns = next(dialogue)
        except StopIteration:
            self._dialogue = None
            self._next()
        except RefusedError:
            self.failed = True
            self._around.counts["transactions failed"] += 1
        else:
            if wait:
                self._wait(dialogue, delay_ns)

    def _transact(self, load: list[Shipment]) -> Dialogue:
        around, log, name = self._around, self._around.log, self._process.name
        transaction = log.begin(name, self._epoch)
        for _ in self._produce(load, transaction):
            yield around.some_ns(0.02, 0.3)
        self._process.step("produced")
        self._group.check(self._member, load[-1].generation)
        log.send_positions(name, self._epoch, self._group.name, _positions(load))
        self._process.step("sent offsets")
        yield around.some_ns(0.2, 3)
        if around.happens("commit fails"):
            if around.dice.random() < 0.5:
                log.end(name, self._epoch, "committed")
            raise RefusedError("timed out")
        restarts = around.happens(MARKERS_SKIPPED)
        log.end(name, self._epoch, "committed", markers=not restarts)
        self._process.step("committed")
        if restarts and around.dice.random() < 0.5:
            self._process.after(around.some_ns(0, 300), self._told_away)
        took_ns = around.some_ns(60, 300) if restarts else around.some_ns(0.2, 3)
        yield took_ns
        if took_ns > _BELIEVED_NS:
            raise RefusedError("a commit that took as long as a restart")
        self._published(load)
        yield around.some_ns(0, 5)

    def _publish(self, load: list[Shipment]) -> Dialogue:
        around = self._around
        for _ in self._produce(load, None):
            yield around.some_ns(0.02, 0.3)
        if around.happens("commit fails"):
            raise RefusedError("a record was not accepted")
        self._process.step("produced")
        yield around.some_ns(0.2, 3)
        self._acknowledged |= _positions(load)
        self._published(load)

    def _produce(self, load: list[Shipment], transaction: Transaction | None) -> Dialogue:
        log = self._around.log
        for shipment in load:
            for tenure, output in shipment.outputs:
                topic, partition = output.place
                for key, value in output.scored:
                    log.append(
                        (SCORED, partition), key, value,
                        transaction=transaction, written_by=tenure,
                    )  # fmt: skip
                for offset, bad in output.dead:
                    headers = dead_letter_headers(
                        bad.headers, topic, partition, offset, bad.why, ENSEMBLE
                    )
                    log.append(
                        (DEAD_LETTERS, 0), bad.key, bad.value, headers,
                        transaction=transaction, written_by=tenure,
                    )  # fmt: skip
                yield 0
                self._process.step("among records")

    def _published(self, load: list[Shipment]) -> None:
        self.unpublished -= sum(len(o) for shipment in load for _, o in shipment.outputs)
        around = self._around
        if around.clock.now_ns >= around.cache_dead_until_ns:
            for shipment in load:
                for _, output in shipment.outputs:
                    around.memory.update(output.latest)


def _positions(load: list[Shipment]) -> dict[Place, Position]:
    positions: dict[Place, Position] = {}
    for shipment in load:
        positions.update(shipment.positions)
    return positions
