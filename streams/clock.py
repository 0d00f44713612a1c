"""The real clock."""

import time

from streams.instants import MonotonicNs, WallMs


class SystemClock:
    """Time as the operating system tells it; see `streams.instants.Clock`."""

    def monotonic_ns(self) -> MonotonicNs:
        """Nanoseconds from an arbitrary start; never decreases."""
        return MonotonicNs(time.monotonic_ns())

    def wall_ms(self) -> WallMs:
        """Milliseconds since 1970-01-01 UTC."""
        return WallMs(time.time_ns() // 1_000_000)
