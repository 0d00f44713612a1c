"""What a cache is to this product: batches of bytes under keys, for a while, or nothing at all.

A cache is never on the path of correctness. It may forget anything at any time, it may be away,
and whoever asks it must be able to go on without the answer.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from streams.breaker import BreakerState
from streams.errors import CacheError

Operation = Literal["read", "write"]

# A server that serves one command at a time is held up for everybody by a larger one, and the
# time for it comes near the timeout: of this size one takes some 2 ms on a busy machine.
EXCHANGE_KEYS = 500


class ScoreCache(Protocol):
    """A bounded, expiring map from bytes to bytes, spoken to in batches.

    All methods may be called from any thread. The only error they raise is `CacheError`, and
    some implementations promise not to raise even that. After an error of `set_many` any part of
    the batch may have been stored.
    """

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, in order; None where there is none or it has expired."""
        ...

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        """Store (key, value) pairs for `ttl_s` ≥ 1 seconds; of a key named twice the last wins."""
        ...

    def close(self) -> None:
        """Release threads and connections, within bounded time; a second call does nothing."""
        ...


class CacheObserver:
    """Hooks that do nothing; inherit and override to see a cache at work.

    They are called on the thread that uses the cache, so they must be quick and not raise.
    """

    def looked_up(self, hits: int, misses: int) -> None:
        """A batch of keys was looked up; an unanswered key is a miss."""

    def failed(self, operation: Operation, error: CacheError) -> None:
        """The store was called and did not do it."""

    def state_changed(self, operation: Operation, state: BreakerState) -> None:
        """The breaker of reads or of writes has moved."""

    def dropped(self, values: int) -> None:
        """So many values will never reach the store."""


SILENT = CacheObserver()
