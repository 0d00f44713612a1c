"""Writes that nobody waits for.

    set_many ─▶ pending (bounded, one value per key) ─▶ writer thread ─▶ store, in batches

While a batch is being written the next one gathers, so batches grow with the load by themselves.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from cache.protocol import EXCHANGE_KEYS, SILENT, CacheObserver, ScoreCache
from streams.errors import CacheError

# A few seconds of writes at full rate: enough for a store that pauses, and bounded in memory.
MAX_PENDING = 50_000
# Two exchanges; between two batches a closing process may interrupt.
MAX_BATCH = 2 * EXCHANGE_KEYS
# A lone value waits so long for company. Readers in this process see it meanwhile.
LINGER_MS = 10
# What a stopping process can spare for the last values.
CLOSE_TIMEOUT_MS = 2000

_Pending = OrderedDict[bytes, tuple[bytes, int]]


class WriteBehind:
    """`ScoreCache` whose `set_many` returns at once; a thread hands the values to `store`.

    Of a key written again before its turn only the last value is stored. When more than
    `max_pending` keys wait, those that wait longest are dropped and reported as such. Reads see
    what is still on its way. Values that the store refuses are dropped: they are reported, by
    the store if it guards itself, else here.

    It owns `store` and closes it.
    """

    def __init__(
        self,
        store: ScoreCache,
        *,
        max_pending: int = MAX_PENDING,
        max_batch: int = MAX_BATCH,
        linger_ms: int = LINGER_MS,
        close_timeout_ms: int = CLOSE_TIMEOUT_MS,
        observer: CacheObserver = SILENT,
    ) -> None:
        assert max_pending >= 1, max_pending
        assert max_batch >= 1, max_batch
        self._store = store
        self._max_pending = max_pending
        self._max_batch = max_batch
        self._linger_s = linger_ms / 1000
        self._close_timeout_s = close_timeout_ms / 1000
        self._observer = observer
        # Guards everything below.
        self._changed = threading.Condition()
        self._pending: _Pending = OrderedDict()
        self._in_flight: _Pending = OrderedDict()
        self._flushing = 0
        self._closing = False
        self._abandoned = False
        self._writer = threading.Thread(target=self._write, name="cache-write", daemon=True)
        self._writer.start()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ScoreCache`. Raises what the store raises."""
        with self._changed:
            on_the_way = [self._pending.get(key) or self._in_flight.get(key) for key in keys]
        values = [None if entry is None else entry[0] for entry in on_the_way]
        missing = [at for at, value in enumerate(values) if value is None]
        if missing:
            found = self._store.get_many([keys[at] for at in missing])
            for at, value in zip(missing, found, strict=True):
                values[at] = value
        return values

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        """See `ScoreCache`. Returns at once and raises nothing; once closed it drops all values."""
        assert ttl_s >= 1, ttl_s
        with self._changed:
            dropped = len(items) if self._closing else self._put(items, ttl_s)
        if dropped:
            self._observer.dropped(dropped)

    def flush(self, timeout_ms: int) -> bool:
        """Wait until nothing is on its way any more; False when that took longer."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(self._is_idle, timeout_ms / 1000)
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Hand over what waits, for `close_timeout_ms` at most; what is left then is dropped."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._writer.join(self._close_timeout_s)
        with self._changed:
            self._abandoned = True
            left = len(self._pending) + len(self._in_flight)
        if left:
            self._observer.dropped(left)
        self._store.close()

    def _put(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> int:
        """Add to what waits; how many had to go for it."""
        was_empty = not self._pending
        self._pending.update((key, (value, ttl_s)) for key, value in items)
        dropped = max(0, len(self._pending) - self._max_pending)
        for _ in range(dropped):
            self._pending.popitem(last=False)
        # In between the writer would only wake to find that it should wait on.
        if was_empty or len(self._pending) >= self._max_batch:
            self._changed.notify_all()
        return dropped

    def _is_idle(self) -> bool:
        return not self._pending and not self._in_flight

    def _is_due(self) -> bool:
        return self._closing or self._flushing > 0 or len(self._pending) >= self._max_batch

    def _write(self) -> None:
        while self._take():
            entries = iter(self._in_flight.items())
            while not self._abandoned and (batch := list(islice(entries, self._max_batch))):
                self._hand_over(batch)
            with self._changed:
                self._in_flight = OrderedDict()
                self._changed.notify_all()

    def _take(self) -> bool:
        """Wait for work and make it `_in_flight`; False when there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            self._changed.wait_for(self._is_due, self._linger_s)
            self._in_flight, self._pending = self._pending, OrderedDict()
            return bool(self._in_flight)

    def _hand_over(self, batch: list[tuple[bytes, tuple[bytes, int]]]) -> None:
        by_ttl: dict[int, list[tuple[bytes, bytes]]] = {}
        for key, (value, ttl_s) in batch:
            by_ttl.setdefault(ttl_s, []).append((key, value))
        for ttl_s, items in by_ttl.items():
            try:
                self._store.set_many(items, ttl_s)
            except CacheError as error:
                self._observer.failed("write", error)
                self._observer.dropped(len(items))
