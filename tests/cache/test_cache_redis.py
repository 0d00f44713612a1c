"""What the Redis store says and does not say when something is wrong."""

import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from cache.guarded import GuardedCache
from cache.memory import MemoryStore
from cache.opening import open_cache, open_store
from cache.redis_store import RedisStore
from cache.write_behind import WriteBehind
from streams.breaker import BreakerConfig
from streams.embedded import EmbeddedRedis
from streams.errors import CacheError, ConfigurationError
from tests.cache.cache_kit import HandClock

SECRET = "hunter2-s3cret"
PATIENCE_MS = 5000


def everything_told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A server that is no Redis: whatever it hears, it says `reply`, then what it heard."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                heard = connection.recv(65536)
                connection.sendall(reply.replace(b"HEARD", heard.replace(b"\r\n", b" ")))
                connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@localhost:6379/0",  # the slash makes the password a port
        f"redis://user:{SECRET}@localhost:99999/0",
        f"redis://user:{SECRET}@localhost/0?max_connections=many",
        f"redis://user:{SECRET}@localhost/0?no_such_option=1",
        f"http://user:{SECRET}@localhost",
        f"{SECRET}",
        "memory://elsewhere",
        "",
    ],
)
def test_a_useless_url_is_the_users_mistake_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^cache\.url: .*expected") as caught:
        open_store(url, timeout_ms=20, max_entries=10, clock=HandClock())
    assert SECRET not in everything_told(caught.value)


def test_a_store_shows_where_it_is_and_not_how_to_get_in() -> None:
    assert repr(RedisStore(f"redis://me:{SECRET}@cache:6380/2", timeout_ms=20)) == (
        "RedisStore(cache:6380)"
    )
    assert repr(RedisStore("redis://", timeout_ms=20)) == "RedisStore(localhost:6379)"
    unix = RedisStore(f"unix://me:{SECRET}@/run/redis.sock?db=1", timeout_ms=20)
    assert repr(unix) == "RedisStore(/run/redis.sock)"


def test_the_urls_own_timeouts_are_overruled() -> None:
    url = "redis://h?socket_timeout=60&socket_connect_timeout=60&retry_on_timeout=yes&protocol=3"
    store = RedisStore(url + "&health_check_interval=1&decode_responses=yes", timeout_ms=20)
    connection = store._client.connection_pool.make_connection()
    assert connection.socket_timeout == connection.socket_connect_timeout == 0.02
    assert connection.retry.get_retries() == 0
    assert connection.retry_on_error == []
    assert connection.health_check_interval == 0
    assert connection.encoder.decode_responses is False
    assert connection.get_protocol() == 2


def test_nobody_there(unused_port: int) -> None:
    store = RedisStore(f"redis://u:{SECRET}@127.0.0.1:{unused_port}", timeout_ms=PATIENCE_MS)
    for ask in (lambda: store.get_many([b"a"]), lambda: store.set_many([(b"a", b"1")], 60)):
        with pytest.raises(CacheError, match=f"127.0.0.1:{unused_port}: no connection") as caught:
            ask()
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        assert SECRET not in everything_told(caught.value)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port on which nobody listens: bound, so that nobody takes it either."""
    with socket.socket() as keeper:
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (b"-ERR unknown command `AUTH`, with args beginning with: HEARD\r\n", "ResponseError"),
        (b"-WRONGPASS HEARD\r\n", "does not accept the user or password"),
        (b"HTTP/1.1 400 HEARD\r\n", "InvalidResponse"),
        (b":HEARD\r\n", "ValueError"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading"),
    ],
)
def test_what_a_server_says_is_not_repeated(reply: bytes, meaning: str) -> None:
    with answering(reply) as port:
        store = RedisStore(f"redis://u:{SECRET}@127.0.0.1:{port}", timeout_ms=PATIENCE_MS)
        with pytest.raises(CacheError, match=meaning) as caught:
            store.get_many([b"a"])
        store.close()
    assert SECRET not in everything_told(caught.value)


def test_a_server_that_accepts_and_says_nothing_costs_one_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        store = RedisStore(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout_ms=20)
        start = time.monotonic()
        with pytest.raises(CacheError, match="no answer in time"):
            store.get_many([b"a"])
        assert 0.019 <= time.monotonic() - start < 1.0
        store.close()


def test_values_expire_in_redis_by_themselves(redis_server: EmbeddedRedis) -> None:
    store = RedisStore(redis_server.url, timeout_ms=PATIENCE_MS)
    store.set_many([(b"expiring", b"1")], 77)
    with redis.Redis.from_url(redis_server.url) as client:
        assert 70 < client.ttl(b"expiring") <= 77
    store.close()


def test_a_unix_socket_will_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Short: the path of a socket may have 107 bytes.
    directory = tmp_path_factory.mktemp("s")
    path = directory / "r.sock"
    with EmbeddedRedis(directory, settings={"unixsocket": str(path)}):
        store = RedisStore(f"unix://{path}", timeout_ms=PATIENCE_MS)
        store.set_many([(b"a", b"1")], 60)
        assert store.get_many([b"a"]) == [b"1"]
        store.close()


def test_a_connection_takes_no_detours(redis_server: EmbeddedRedis) -> None:
    """Each exchange at connecting costs a latency, and each may cost a timeout."""
    store = RedisStore(redis_server.url, timeout_ms=PATIENCE_MS)
    with redis.Redis.from_url(redis_server.url) as client:
        before = client.info("commandstats")
        store.get_many([b"a"])
        after = client.info("commandstats")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed - {"cmdstat_info"} == {"cmdstat_mget"}
    store.close()


def test_the_url_decides_what_is_opened() -> None:
    clock = HandClock()
    options = {"timeout_ms": 20, "max_entries": 10, "clock": clock}
    for url in (None, "memory://"):
        assert isinstance(open_store(url, **options), MemoryStore)
        assert isinstance(open_cache(url, breaker=BreakerConfig(), **options), GuardedCache)
    for url in ("redis://nowhere", "rediss://nowhere", "unix:///nowhere"):
        assert isinstance(open_store(url, **options), RedisStore)
        opened = open_cache(url, breaker=BreakerConfig(), **options)
        assert isinstance(opened, WriteBehind)
        opened.close()
