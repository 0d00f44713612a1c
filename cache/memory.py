"""A cache inside the process: least recently used goes first, and nothing outlives its time."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from streams.instants import Clock

_NS_PER_S = 1_000_000_000


class MemoryStore:
    """`ScoreCache` of at most `max_entries` values in this process's memory. Raises nothing.

    An expired value leaves when it is asked for or when its place is needed; until then it
    takes one of the places, which are bounded anyway.
    """

    def __init__(self, *, max_entries: int, clock: Clock) -> None:
        assert max_entries >= 1, max_entries
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        # The least recently used first: key → (value, when it expires).
        self._entries: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ScoreCache`."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            return [self._get(key, now_ns) for key in keys]

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        """See `ScoreCache`."""
        assert ttl_s >= 1, ttl_s
        expires_ns = self._clock.monotonic_ns() + ttl_s * _NS_PER_S
        with self._lock:
            for key, value in items:
                self._entries[key] = (value, expires_ns)
                self._entries.move_to_end(key)
                if len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def _get(self, key: bytes, now_ns: int) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires_ns = entry
        if now_ns >= expires_ns:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value
