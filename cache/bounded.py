"""A time limit on reads that holds whatever the store does.

A socket timeout bounds one exchange, not a call: resolving a name, a TLS handshake or a server
that sends its answer byte by byte can each take many times as long. Here the store is asked on a
helper thread and the caller waits so long and no longer; an answer that comes later is thrown
away. The price is two thread switches per exchange, some tens of microseconds.

Writes go through as they are: they are made behind the caller's back (`cache/write_behind.py`).
"""

import queue
import threading
from collections.abc import Sequence

from cache.protocol import EXCHANGE_KEYS, ScoreCache
from streams.errors import CacheError

# Helpers are started when all others are busy. With a healthy store one or two exist; each
# further one that hangs costs a thread, and the breaker stops the asking long before that.
MAX_HELPERS = 4
# More calls than this waiting for a helper means that none will be served in time.
MAX_WAITING = 64


class _Call:
    """One read on its way to a helper and back."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys
        self.done = threading.Event()
        self.abandoned = False
        self.values: list[bytes | None] = []
        self.error: Exception | None = None


class BoundedStore:
    """`ScoreCache` that waits `timeout_ms` for `store` to be read, then raises CacheError.

    A large batch is read in parts of `EXCHANGE_KEYS`, each with that time of its own: a store
    that is merely busy may answer it, and one that hangs is given up with the first part.

    It owns `store` and closes it. Closing does not wait for a helper that hangs; helpers are
    daemon threads and do not keep the process alive either.
    """

    def __init__(self, store: ScoreCache, *, timeout_ms: int) -> None:
        assert timeout_ms >= 1, timeout_ms
        self._store = store
        self._timeout_ms = timeout_ms
        self._waiting: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._helpers = 0
        self._open_calls = 0
        self._closed = False

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ScoreCache`. Raises CacheError: the store's own, or that the time is over."""
        values: list[bytes | None] = []
        for start in range(0, len(keys), EXCHANGE_KEYS):
            values += self._read(keys[start : start + EXCHANGE_KEYS])
        return values

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        """See `ScoreCache`."""
        self._store.set_many(items, ttl_s)

    def close(self) -> None:
        """Send the helpers home and close the store."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in range(self._helpers):
                self._waiting.put(None)
        self._store.close()

    def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        call = _Call(keys)
        self._submit(call)
        if not call.done.wait(self._timeout_ms / 1000):
            call.abandoned = True
            raise CacheError(f"{self._store!r}: no answer within {self._timeout_ms} ms")
        if call.error is not None:
            raise call.error
        return call.values

    def _submit(self, call: _Call) -> None:
        with self._lock:
            if self._closed:
                raise CacheError(f"{self._store!r}: closed")
            if self._open_calls >= MAX_HELPERS + MAX_WAITING:
                raise CacheError(f"{self._store!r}: too many reads at once")
            self._open_calls += 1
            if self._open_calls > self._helpers and self._helpers < MAX_HELPERS:
                self._helpers += 1
                threading.Thread(target=self._help, name="cache-read", daemon=True).start()
            self._waiting.put(call)

    def _help(self) -> None:
        while (call := self._waiting.get()) is not None:
            if not call.abandoned:
                try:
                    call.values = self._store.get_many(call.keys)
                except Exception as error:  # noqa: BLE001 - raised again where the caller waits
                    call.error = error
            with self._lock:
                self._open_calls -= 1
            call.done.set()
