"""What the tests of the cache share: a clock to turn by hand, stores that misbehave on command."""

import threading
import time
from collections.abc import Callable, Sequence

from cache.protocol import CacheObserver, Operation
from streams.breaker import BreakerState
from streams.errors import CacheError
from streams.instants import NS_PER_MS, MonotonicNs, WallMs

POLL_S = 0.002


class HandClock:
    """A `Clock` that moves when told; both times start at unrelated values."""

    def __init__(self) -> None:
        self._monotonic_ns = 7_000_000_000
        self._wall_ms = 1_700_000_000_000

    def monotonic_ns(self) -> MonotonicNs:
        return MonotonicNs(self._monotonic_ns)

    def wall_ms(self) -> WallMs:
        return WallMs(self._wall_ms)

    def advance_ms(self, duration_ms: int) -> None:
        self._monotonic_ns += duration_ms * NS_PER_MS
        self._wall_ms += duration_ms


class RealClock:
    """The machine's clock."""

    def monotonic_ns(self) -> MonotonicNs:
        return MonotonicNs(time.monotonic_ns())

    def wall_ms(self) -> WallMs:
        return WallMs(time.time_ns() // NS_PER_MS)


def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> float:
    """Wait until the condition holds and return how long that took, in seconds."""
    start = time.monotonic()
    pause = threading.Event()
    while not condition():
        waited_s = time.monotonic() - start
        assert waited_s < within_s, f"not so within {within_s} s"
        pause.wait(POLL_S)
    return time.monotonic() - start


class Witness(CacheObserver):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.dropped_values = 0
        self.failures: list[tuple[Operation, str]] = []
        self.states: list[tuple[Operation, BreakerState]] = []

    def looked_up(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def failed(self, operation: Operation, error: CacheError) -> None:
        self.failures.append((operation, str(error)))

    def state_changed(self, operation: Operation, state: BreakerState) -> None:
        self.states.append((operation, state))

    def dropped(self, values: int) -> None:
        self.dropped_values += values


class ToyStore:
    """A dictionary with switches: fail reads or writes, or hold them until released."""

    def __init__(self) -> None:
        self.content: dict[bytes, tuple[bytes, int]] = {}
        self.batches: list[tuple[list[tuple[bytes, bytes]], int]] = []
        self.reads: list[list[bytes]] = []
        self.fail_reads = False
        self.fail_writes = False
        self.pass_reads = threading.Event()
        self.pass_writes = threading.Event()
        self.pass_reads.set()
        self.pass_writes.set()
        self.entered = threading.Semaphore(0)
        self.closed = 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.reads.append(list(keys))
        self.entered.release()
        assert self.pass_reads.wait(30)
        if self.fail_reads:
            raise CacheError("toy: no reads")
        return [self.content[key][0] if key in self.content else None for key in keys]

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        self.entered.release()
        assert self.pass_writes.wait(30)
        if self.fail_writes:
            raise CacheError("toy: no writes")
        self.batches.append((list(items), ttl_s))
        self.content.update((key, (value, ttl_s)) for key, value in items)

    def close(self) -> None:
        self.closed += 1
