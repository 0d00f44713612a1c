"""The door to Redis. It fails fast, never tries twice, and never tells the password.

The client's own defaults wait for a minute on a server that hangs (5 s, ten retries); whoever
scores events has no such minute. Trying again is the breaker's business (`cache/guarded.py`).

What a Redis answers may repeat what it was sent, an AUTH command for example. So its words never
go into our errors, only their meaning; and such an error is not kept as the cause.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry

from cache.protocol import EXCHANGE_KEYS
from streams.errors import CacheError, ConfigurationError

# The most specific first.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (redis.TimeoutError, "no answer in time"),
    (AuthenticationError, "it does not accept the user or password"),
    (BusyLoadingError, "it is still loading its data"),
    (OutOfMemoryError, "its memory is full"),
    (ReadOnlyError, "it is a read-only replica"),
    (redis.ConnectionError, "no connection"),
)


class RedisStore:
    """`ScoreCache` in a Redis of version 4 or newer, shared by all processes that name it.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user, password, database and TLS options
            as redis-py reads them. Its timeouts are overruled.
        timeout_ms: how long one exchange with the server may take, connecting as well. Name
            resolution is not bounded by it: the operating system does that.

    Raises:
        ConfigurationError: the URL cannot be used. There is no connection until the first call.
    """

    def __init__(self, url: str, *, timeout_ms: int) -> None:
        assert timeout_ms >= 1, timeout_ms
        timeout_s = timeout_ms / 1000
        try:
            options = parse_url(url) | {  # type: ignore[no-untyped-call]
                "socket_timeout": timeout_s,
                "socket_connect_timeout": timeout_s,
                "retry": Retry(NoBackoff(), 0),
                "retry_on_timeout": False,
                "retry_on_error": [],
                "health_check_interval": 0,
                "decode_responses": False,
                # The newer protocol and the announcement of the client's name cost three more
                # exchanges per connection and bring nothing here.
                "protocol": 2,
                "driver_info": None,
            }
            connection_class = options.pop("connection_class", Connection)
            pool = redis.ConnectionPool(connection_class=connection_class, **options)
            # Builds a connection without connecting it, which tells unknown options.
            pool.make_connection()
        except (ValueError, TypeError, RedisError):
            # The foreign message may quote the URL, and with it the password.
            raise ConfigurationError(
                "cache.url", "not a usable Redis URL; expected redis://user:password@host:port/0"
            ) from None
        self._client = redis.Redis(connection_pool=pool)
        self._address = _address(options)

    def __repr__(self) -> str:
        return f"RedisStore({self._address})"

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ScoreCache`. Raises CacheError when Redis does not answer or refuses."""
        values: list[bytes | None] = []
        with self._translated():
            for start in range(0, len(keys), EXCHANGE_KEYS):
                chunk = keys[start : start + EXCHANGE_KEYS]
                # Never str: responses are not decoded.
                values += cast("list[bytes | None]", self._client.mget(chunk))
        return values

    def set_many(self, items: Sequence[tuple[bytes, bytes]], ttl_s: int) -> None:
        """See `ScoreCache`. Raises CacheError when Redis does not answer or refuses a value."""
        assert ttl_s >= 1, ttl_s
        with self._translated():
            for start in range(0, len(items), EXCHANGE_KEYS):
                pipeline = self._client.pipeline(transaction=False)
                for key, value in items[start : start + EXCHANGE_KEYS]:
                    pipeline.set(key, value, ex=ttl_s)
                pipeline.execute()

    def close(self) -> None:
        """Close all connections."""
        self._client.connection_pool.disconnect()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Whatever the client raises leaves as CacheError.

        ValueError too: it is what the client's parser makes of a server that is no Redis.
        """
        try:
            yield
        except (RedisError, OSError, ValueError) as error:
            meaning = next(
                (text for kind, text in _MEANINGS if isinstance(error, kind)), type(error).__name__
            )
            own_words = isinstance(error, (redis.TimeoutError, redis.ConnectionError, OSError))
            trusted = own_words and not isinstance(error, AuthenticationError)
            raise CacheError(f"Redis at {self._address}: {meaning}") from (
                error if trusted else None
            )


def _address(options: dict[str, object]) -> str:
    """Where the server is, without user and password."""
    if "path" in options:
        return str(options["path"])
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
