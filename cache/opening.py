"""From a URL to a cache."""

from cache.bounded import BoundedStore
from cache.guarded import GuardedCache
from cache.memory import MemoryStore
from cache.protocol import SILENT, CacheObserver, ScoreCache
from cache.redis_store import RedisStore
from cache.write_behind import MAX_PENDING, WriteBehind
from streams.breaker import BreakerConfig
from streams.errors import ConfigurationError
from streams.instants import Clock
from streams.settings import CacheSettings

MEMORY_URL = "memory://"
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_store(
    url: str | None, *, timeout_ms: int, max_entries: int, clock: Clock
) -> MemoryStore | RedisStore:
    """The bare store behind `url`, which raises CacheError when it cannot answer.

    For those who want to know (`ensemble check`, `ensemble get`); None is `memory://`, a store
    inside this process. Nothing is connected before the first call.

    Raises:
        ConfigurationError: the URL is of no known kind.
    """
    if url is None or url == MEMORY_URL:
        return MemoryStore(max_entries=max_entries, clock=clock)
    if url.startswith(REDIS_SCHEMES):
        return RedisStore(url, timeout_ms=timeout_ms)
    # Without quoting it: what is no URL may still hold a password.
    raise ConfigurationError(
        "cache.url", f"unknown kind; expected {MEMORY_URL} or one of {', '.join(REDIS_SCHEMES)}"
    )


def open_cache(
    url: str | None,
    *,
    timeout_ms: int,
    max_entries: int,
    breaker: BreakerConfig,
    clock: Clock,
    observer: CacheObserver = SILENT,
) -> ScoreCache:
    """A cache for the scoring path: never raises, never holds anybody up longer than a timeout.

    In front of a Redis stand a write-behind queue, an in-process cache of `max_entries` values,
    a breaker each for reads and writes, and `timeout_ms` on every read as a whole.

    Raises:
        ConfigurationError: the URL is of no known kind.
    """
    store = open_store(url, timeout_ms=timeout_ms, max_entries=max_entries, clock=clock)
    if isinstance(store, MemoryStore):
        return GuardedCache(store, breaker=breaker, clock=clock, observer=observer)
    guarded = GuardedCache(
        BoundedStore(store, timeout_ms=timeout_ms),
        breaker=breaker,
        clock=clock,
        front=MemoryStore(max_entries=max_entries, clock=clock),
        observer=observer,
    )
    # What is on its way takes no more memory than what is kept.
    return WriteBehind(guarded, max_pending=min(MAX_PENDING, max_entries), observer=observer)


def open_configured(
    settings: CacheSettings, clock: Clock, observer: CacheObserver = SILENT
) -> ScoreCache:
    """`open_cache` as `[cache]` says.

    Raises:
        ConfigurationError: the URL is of no known kind.
    """
    return open_cache(
        settings.url.get_secret_value(),
        timeout_ms=settings.timeout_ms,
        max_entries=settings.max_entries,
        breaker=BreakerConfig(
            failures=settings.breaker_failures, cool_down_ms=settings.breaker_cool_down_ms
        ),
        clock=clock,
        observer=observer,
    )
