"""What must come of a schedule, said slowly: one event at a time, in lists, from the whole log.

Shares no code with the join. The answer of a model to an event is the first one in the log; it
counts from the moment its record was read. So an answer that is lost over a restart shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

MEMBERS = 3
# Nanoseconds; small, so that a few ticks reach every limit.
DEADLINE_NS, STALL_NS, LIMIT_NS = 10, 14, 40
WEIGHTS = (1.0, 2.0, 3.0)
# Where one of the others says this, or none says anything, a cascade's heavy models are asked.
UNCERTAIN = 0.25


class BrokenPromiseError(AssertionError):
    """The schedule shows that a rule does not hold."""


@dataclass(slots=True)
class Event:
    """An event of the log, and what became of it.

    `first` holds each model's first answer with its record; a score that is NaN is a refusal.
    `told` are all records about it, with their models.
    `seen_ns`, `due_ns`, `patient_ns`, `backlog`, `gone`, `judged` (the cascade's rule was asked)
    and `asked` (the heavy models were) are of the present life; `committed` stays.
    """

    offset: int
    good: bool
    first: list[tuple[int, float] | None] = field(default_factory=lambda: [None] * MEMBERS)
    told: list[tuple[int, int]] = field(default_factory=list)
    seen_ns: int = -1
    due_ns: int = -1
    patient_ns: int = -1
    backlog: bool = False
    gone: bool = False
    judged: bool = False
    asked: bool = False
    committed: bool = False


class Oracle:
    """Watches one join through its lives.

    Args:
        events: all of them, in order.
        in_order: whether they leave in that order.
        roomy: whether the list of what left ahead is never too long.
        share: of the weight that is a quorum; 0 for none.
        heavy: members that are asked where the others are uncertain.
    """

    def __init__(
        self,
        events: list[Event],
        *,
        in_order: bool,
        roomy: bool,
        share: float,
        heavy: tuple[int, ...],
    ) -> None:
        self.events = events
        self.read = 0  # records of the answers' log that were read in this life
        self.now_ns = 0
        self._in_order, self._roomy = in_order, roomy
        self.heavy = heavy
        self.escalated: list[int] = []
        self._enough = share * sum(WEIGHTS)
        self._held = False
        self._last_committed = -1
        self.restart(0)

    def restart(self, read: int) -> None:
        """A new life, which reads answers from this record on; what was committed is gone."""
        self.read = self._began = read
        self._pending: list[Event] = []
        self.expected = [True] * MEMBERS
        self.progress_ns = [0] * MEMBERS
        self.uncommitted: list[Event] = []

    # -- what comes in -----------------------------------------------------------------------

    def written(self, record: int, member: int, offsets: list[int], scores: list[float]) -> None:
        """A record in the answers' log; the first answer holds."""
        said = dict(zip(reversed(offsets), reversed(scores), strict=True))
        for event in self.events:
            if event.offset in said:
                event.told.append((record, member))
                if event.first[member] is None:
                    event.first[member] = (record, said[event.offset])

    def came(self, events: list[Event], backlog_below: int) -> None:
        """Events were read."""
        if not self._pending:
            self.progress_ns = [max(before, self.now_ns) for before in self.progress_ns]
        oldest = self._oldest_late()
        for event in events:
            event.seen_ns, own_ns = self.now_ns, self.now_ns + DEADLINE_NS
            event.backlog = event.offset < backlog_below or oldest is not None
            if event.offset < backlog_below:
                event.due_ns, event.patient_ns = self.now_ns + LIMIT_NS, self.now_ns + STALL_NS
            elif oldest is not None:
                event.due_ns = max(own_ns, oldest.due_ns)
                event.patient_ns = max(own_ns, oldest.patient_ns)
            else:
                event.due_ns = own_ns
            event.gone = event.committed
            event.judged = event.asked = False
            for record, member in event.told:
                # An answer that was held until now counts as heard now.
                if self._began <= record < self.read:
                    self.progress_ns[member] = self.now_ns
        self._pending += [event for event in events if not event.gone]

    def _oldest_late(self) -> Event | None:
        """The backlog that holds up whoever comes now, if it has waited for a deadline."""
        if not self._in_order or not self._pending:
            return None
        oldest = self._pending[0]
        late = oldest.seen_ns + DEADLINE_NS <= self.now_ns
        return oldest if oldest.backlog and late else None

    def heard(self, members: Sequence[int]) -> None:
        """The next record was read, and was of these members."""
        self.read += 1
        for member in members:
            self.progress_ns[member] = self.now_ns

    # -- what goes out -----------------------------------------------------------------------

    def answer(self, event: Event, member: int) -> float | None:
        """What was read of a member; None is nothing yet."""
        found = event.first[member]
        return found[1] if found is not None and found[0] < self.read else None

    def leaves_at(self, event: Event) -> int:
        """When an event leaves if nothing more comes; 0 is at once."""
        if not event.good:
            return 0
        waiting = []
        weight = 0.0
        for member in range(MEMBERS):
            score = self.answer(event, member)
            if score is None:
                if self.expected[member] and (event.asked or member not in self.heavy):
                    waiting.append(member)
            elif score == score:  # noqa: PLR0124 -- NaN refuses
                weight += WEIGHTS[member]
        if not waiting or 0 < self._enough <= weight:
            return 0
        if not event.backlog:
            return event.due_ns
        heard_ns = max(self.progress_ns[member] for member in waiting)
        return min(event.due_ns, max(heard_ns + STALL_NS, event.patient_ns))

    def ask(self) -> None:
        """Ask the rule about every event that waits for nobody and has time left."""
        self.escalated = []
        idle = [
            member
            for member in self.heavy
            if not any(e.asked and self.answer(e, member) is None for e in self._pending)
        ]
        for event in self._pending if self.heavy else ():
            if event.judged or not event.good or event.due_ns <= self.now_ns:
                continue
            if self.leaves_at(event):
                continue
            event.judged = True
            said = [self.answer(event, m) for m in range(MEMBERS) if m not in self.heavy]
            answered = [score for score in said if score is not None and score == score]  # noqa: PLR0124 -- NaN refuses
            silent = any(self.answer(event, member) is None for member in self.heavy)
            if silent and (UNCERTAIN in answered or not answered):
                event.asked = True
                self.escalated.append(event.offset)
        for member in idle if self.escalated else ():
            self.progress_ns[member] = max(self.progress_ns[member], self.now_ns)

    def left(self, offsets: list[int]) -> list[Event]:
        """Judge which events left at this instant; those events."""
        ready = []
        for event in self._pending:
            if self.leaves_at(event) <= self.now_ns:
                ready.append(event)
            elif self._in_order:
                break
        wanted = [event.offset for event in ready]
        self._held = offsets != wanted
        if self._held:
            fair = not self._in_order and not self._roomy and offsets == wanted[: len(offsets)]
            if not fair:
                raise BrokenPromiseError(f"{offsets} left at {self.now_ns}, and not {wanted}")
            if self._pending[0] is ready[0] and not offsets:
                raise BrokenPromiseError(f"the oldest event, {wanted[0]}, was held back")
        gone = ready[: len(offsets)]
        for event in gone:
            if event.committed:
                raise BrokenPromiseError(f"{event.offset} left again")
            event.gone = True
        if gone:
            self._pending = [event for event in self._pending if not event.gone]
            self.uncommitted += gone
        return gone

    def wakes_at(self) -> int | None:
        """When something leaves next; 0 where that depends on room."""
        if not self._pending:
            return None
        if self._in_order:
            return self.leaves_at(self._pending[0])
        return 0 if self._held else min(map(self.leaves_at, self._pending))

    def commit(self) -> None:
        """All that left is safe, and never leaves again."""
        for event in self.uncommitted:
            event.committed = True
            if self._in_order and event.offset < self._last_committed:
                raise BrokenPromiseError(f"{event.offset} after {self._last_committed}")
            self._last_committed = event.offset
        self.uncommitted = []

    def finish(self) -> None:
        """In the end everything has left and is committed."""
        if lost := [event.offset for event in self.events if not event.committed]:
            raise BrokenPromiseError(f"{lost} never left")
