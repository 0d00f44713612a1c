"""How many events are due: arithmetic only, time is an argument."""

NS_PER_S = 1_000_000_000


class Pace:
    """A steady rate with small ticks.

    Events are due at evenly spaced moments from the start. Whoever comes late, because a queue
    was full or a machine slept, is given at most `burst_ns` worth of them at once; the rest is
    forgotten and not made up for.

    >>> pace = Pace(rate_per_s=1000, start_ns=0)
    >>> pace.due(2_500_000), pace.due(2_600_000), pace.wait_ns(2_600_000)
    (3, 0, 400000)
    """

    def __init__(self, rate_per_s: float, start_ns: int, burst_ns: int = NS_PER_S // 10) -> None:
        assert rate_per_s > 0, "a pace needs a rate"
        self._step_ns = NS_PER_S / rate_per_s
        self._origin_ns = float(start_ns)
        self._burst_ns = max(burst_ns, self._step_ns)
        self._given = 0

    def due(self, now_ns: int) -> int:
        """Events due by now that were not given before; the first one at the start."""
        behind_ns = now_ns - (self._origin_ns + self._given * self._step_ns)
        if behind_ns < 0:
            return 0
        if behind_ns > self._burst_ns:
            self._origin_ns += behind_ns - self._burst_ns
            behind_ns = self._burst_ns
        count = int(behind_ns // self._step_ns) + 1
        self._given += count
        return count

    def wait_ns(self, now_ns: int) -> int:
        """Nanoseconds until the next event is due."""
        return max(0, round(self._origin_ns + self._given * self._step_ns - now_ns))
