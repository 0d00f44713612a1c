"""Time that passes only when nothing is left to do at the present instant."""

import heapq
from collections.abc import Callable

from streams.instants import NS_PER_MS, WallMs

Action = Callable[[], None]


class VirtualClock:
    """The true time of a simulation in nanoseconds from 0, and a wall clock that may be set.

    Processes do not see the true time: each adds a base of its own, so that an instant of one
    process means nothing to another, as on real machines.
    """

    def __init__(self, wall_ms: int) -> None:
        self.now_ns = 0
        self._wall_start_ms = wall_ms

    def wall_ms(self) -> WallMs:
        """Milliseconds since 1970, as everybody believes at present."""
        return WallMs(self._wall_start_ms + self.now_ns // NS_PER_MS)

    def step_wall(self, by_ms: int) -> None:
        """Somebody sets the wall clock."""
        self._wall_start_ms += by_ms


class Agenda:
    """What happens when: the only loop of a simulation."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Action]] = []
        self._number = 0

    def after(self, delay_ns: int, action: Action) -> None:
        """Do something later; what is due at one instant happens in the order of asking."""
        assert delay_ns >= 0
        self._number += 1
        heapq.heappush(self._heap, (self._clock.now_ns + delay_ns, self._number, action))

    def run(self, until_ns: int) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= until_ns:
            self._clock.now_ns, _, action = heapq.heappop(self._heap)
            action()
        self._clock.now_ns = until_ns
