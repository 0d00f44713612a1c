"""What stands between the scorer and a store that may be slow, full or gone.

    get_many ─▶ front (this process) ─▶ breaker of reads  ─▶ store
    set_many ─▶ front (this process) ─▶ breaker of writes ─▶ store

Reads and writes have a breaker each: a store whose memory is full refuses every write and still
answers every read.
"""

import threading
from collections.abc import Sequence

from cache.protocol import SILENT, CacheObserver, Operation, ScoreCache
from streams.breaker import Breaker, BreakerConfig, BreakerState, Ticket
from streams.errors import CacheError
from streams.instants import Clock

# How long the front may answer with what was written here: what another process has stored in
# the meantime is not seen for so long. Long enough to bridge a restart of the store.
FRONT_TTL_S = 60
# The same for what was read from the store. How long it has still to live there is not known, and
# it must not live much longer here; a burst is over within so long.
READ_TTL_S = 1


class _Gate:
    """A breaker that threads may share and that tells an observer where it goes."""

    def __init__(
        self, operation: Operation, config: BreakerConfig, clock: Clock, observer: CacheObserver
    ) -> None:
        self._operation = operation
        self._clock = clock
        self._observer = observer
        self._lock = threading.Lock()
        self._breaker = Breaker(config)

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    def enter(self) -> Ticket | None:
        with self._lock:
            before = self._breaker.state
            ticket = self._breaker.admit(self._clock.monotonic_ns())
            self._tell(before)
        return ticket

    def leave(self, ticket: Ticket, error: CacheError | None) -> None:
        with self._lock:
            before = self._breaker.state
            self._breaker.settle(ticket, self._clock.monotonic_ns(), succeeded=error is None)
            self._tell(before)
        if error is not None:
            self._observer.failed(self._operation, error)

    def _tell(self, before: BreakerState) -> None:
        if self._breaker.state is not before:
            self._observer.state_changed(self._operation, self._breaker.state)


class GuardedCache:
    """`ScoreCache` that raises nothing: a store in trouble costs misses and lost writes, no more.

    Args:
        store: what to guard; closed with this.
        breaker: how soon reads, and writes, stop asking the store.
        clock: for the breakers.
        front: a store that cannot fail (`MemoryStore`), asked first and told everything;
            None for no front. Closed with this.
        front_ttl_s: how long the front may answer with what was written through this cache.
        observer: is told of hits, misses, failures and the breakers' states.
    """

    def __init__(
        self,
        store: ScoreCache,
        *,
        breaker: BreakerConfig,
        clock: Clock,
        front: ScoreCache | None = None,
        front_ttl_s: int = FRONT_TTL_S,
        observer: CacheObserver = SILENT,
    ) -> None:
        self._store = store
        self._front = front
        self._front_ttl_s = front_ttl_s
        self._observer = observer
        self._reads = _Gate("read", breaker, clock, observer)
        self._writes = _Gate("write", breaker, clock, observer)

    @property
    def read_state(self) -> BreakerState:
        """Whether reads reach the store."""
        return self._reads.state

    @property
    def write_state(self) -> BreakerState:
        """Whether writes reach the store."""
        return self._writes.state

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ScoreCache`. Raises nothing; what the store does not answer is None."""
        front = self._front
        values: list[bytes | None] = [None] * len(keys)
        if front is not None:
            values = front.get_many(keys)
        missing = [at for at, value in enumerate(values) if value is None]
        if missing:
            found = self._read([keys[at] for at in missing])
            for at, value in zip(missing, found, strict=True):
                values[at] = value
            if front is not None:
                fresh = [(keys[at], value) for at in missing if (value := values[at]) is not None]
                front.set_many(fresh, READ_TTL_S)
        misses = values.count(None)
        self._observer.looked_up(len(values) - misses, misses)
        return values

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        """See `ScoreCache`. Raises nothing; what the store does not take is reported as dropped."""
        if not items:
            return
        if self._front is not None:
            self._front.set_many(items, min(ttl_s, self._front_ttl_s))
        ticket = self._writes.enter()
        if ticket is None:
            self._observer.dropped(len(items))
            return
        try:
            self._store.set_many(items, ttl_s)
        except CacheError as error:
            self._writes.leave(ticket, error)
            self._observer.dropped(len(items))
        else:
            self._writes.leave(ticket, None)

    def close(self) -> None:
        """Close the front and the store."""
        if self._front is not None:
            self._front.close()
        self._store.close()

    def _read(self, keys: list[bytes]) -> list[bytes | None]:
        ticket = self._reads.enter()
        if ticket is None:
            return [None] * len(keys)
        try:
            values = self._store.get_many(keys)
        except CacheError as error:
            self._reads.leave(ticket, error)
            return [None] * len(keys)
        self._reads.leave(ticket, None)
        return values
