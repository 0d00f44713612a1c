"""A process that can be killed at any step and stand still at any instant."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cache.latest import Latest
from combiner.core import Combiner
from simulation.clock import Agenda, VirtualClock
from simulation.faults import Plan
from simulation.group import Group
from simulation.journal import Journal
from simulation.log import Log
from streams.instants import NS_PER_MS, MonotonicNs

PREDICTIONS, SCORED, DEAD_LETTERS = "predictions", "scored", "dead-letters"
ESCALATIONS = "escalations"
# How long the group waits for a member that is away, and how long a supervisor takes.
SESSION_MS = 400
RESTART_MS = 60

# A dialogue with the broker: each yield says how many nanoseconds the step takes.
Dialogue = Iterator[int]


class KilledError(Exception):
    """The process ends at this very step."""


@dataclass(slots=True)
class Surroundings:
    """What all processes of a run share."""

    plan: Plan
    dice: np.random.Generator
    clock: VirtualClock
    agenda: Agenda
    log: Log
    journal: Journal
    groups: dict[str, Group]
    build: Callable[["Surroundings", int], Combiner]
    counts: Counter[str]
    memory: dict[str, Latest]
    silent_until_ns: dict[str, int]
    cache_dead_until_ns: int = 0
    calm: bool = False  # no fault happens any more

    def happens(self, fault: str) -> bool:
        """Whether a fault strikes here; counted when it does."""
        rate = self.plan.rate(fault)
        if self.calm or not rate or self.dice.random() >= rate:
            return False
        self.counts[fault] += 1
        return True

    def some_ns(self, least_ms: float, most_ms: float) -> int:
        """A duration."""
        return round((least_ms + (most_ms - least_ms) * self.dice.random()) * NS_PER_MS)


class Process:
    """Turns and dialogues in virtual time; subclasses say what a turn is.

    Whatever is due while the process stands still happens when it goes on, in the same order.
    """

    def __init__(self, around: Surroundings, name: str) -> None:
        self.around = around
        self.name = name
        self.alive = False
        self.down_for_good = False
        self._paused_until_ns = 0
        self._base_ns = 0
        self._life = 0
        self._absences = 0
        self._turn_at_ns: int | None = None
        around.log.watch.append(self._on_append)

    # -- life --------------------------------------------------------------------------------

    @property
    def present(self) -> bool:
        """Whether it would answer now."""
        return self.alive and self.around.clock.now_ns >= self._paused_until_ns

    def start(self) -> None:
        """A new process in the old slot."""
        if self.alive:
            return
        self.alive, self.down_for_good = True, False
        self._life += 1
        self._absences += 1
        self._paused_until_ns = 0
        self._turn_at_ns = None
        self._base_ns = int(self.around.dice.integers(1, 10**15))
        self.begin()

    def kill(self, restart_ms: float = RESTART_MS) -> None:
        """End without a word; a supervisor starts it again."""
        if not self.alive:
            return
        self.alive = False
        self._life += 1
        self.ended()
        self.around.agenda.after(round(restart_ms * NS_PER_MS), self._restart)
        self._expel_if_away()

    def _restart(self) -> None:
        if not self.down_for_good:
            self.start()

    def pause(self, for_ms: int) -> None:
        """Stand still, as a process does whose machine swaps."""
        if not self.alive:
            return
        now_ns = self.around.clock.now_ns
        self._paused_until_ns = max(self._paused_until_ns, now_ns + for_ms * NS_PER_MS)
        pauses = self.around.journal.pauses.setdefault(self.name, [])
        pauses.append((now_ns, self._paused_until_ns))
        self._expel_if_away()
        self.after(0, self.woke)

    def _expel_if_away(self) -> None:
        """The group's patience begins."""
        self._absences += 1
        absence = self._absences

        def expel() -> None:
            if self._absences == absence and not self.present:
                self.expelled()

        self.around.agenda.after(SESSION_MS * NS_PER_MS, expel)

    def begin(self) -> None:
        """What a new process does first."""

    def ended(self) -> None:
        """What is lost with it."""

    def woke(self) -> None:
        """It goes on after a pause."""

    def expelled(self) -> None:
        """Its session ended."""

    # -- time --------------------------------------------------------------------------------

    def monotonic_ns(self) -> MonotonicNs:
        """The process's own clock."""
        return MonotonicNs(self._base_ns + self.around.clock.now_ns)

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Do something later, if this life lasts."""
        life = self._life

        def act() -> None:
            if self._life != life:
                return
            late_ns = self._paused_until_ns - self.around.clock.now_ns
            if late_ns > 0:
                self.around.agenda.after(late_ns, act)
                return
            try:
                action()
            except KilledError:
                self.kill()

        self.around.agenda.after(delay_ns, act)

    def step(self, name: str) -> None:
        """A point at which the process may be killed."""
        around = self.around
        if not around.calm and around.dice.random() < around.plan.rate("crash at a step"):
            around.counts[f"crash: {self.name.partition('.')[0]} {name}"] += 1
            raise KilledError

    def wake_at(self, at_ns: int) -> None:
        """Take a turn at an instant, or before."""
        if self._turn_at_ns is not None and self._turn_at_ns <= at_ns:
            return
        self._turn_at_ns = at_ns

        def turn() -> None:
            if self._turn_at_ns == at_ns:
                self._turn_at_ns = None
                self.turn()

        self.after(max(0, at_ns - self.around.clock.now_ns), turn)

    def _on_append(self, place: tuple[str, int]) -> None:
        if self.alive and self.reads(place):
            self.wake_at(self.around.clock.now_ns + self.around.some_ns(0.2, 1.5))

    def reads(self, _place: tuple[str, int]) -> bool:
        """Whether something new at a place is news to it."""
        return False

    def turn(self) -> None:
        """One round of its loop."""
