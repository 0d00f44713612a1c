"""One battery for everything that claims to be a `ScoreCache`."""

import importlib
import inspect
import pkgutil
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

import cache
from cache.bounded import BoundedStore
from cache.guarded import GuardedCache
from cache.memory import MemoryStore
from cache.opening import open_cache
from cache.protocol import EXCHANGE_KEYS, ScoreCache
from cache.redis_store import RedisStore
from cache.write_behind import WriteBehind
from streams.breaker import BreakerConfig
from streams.embedded import EmbeddedRedis
from tests.cache.cache_kit import HandClock, RealClock, eventually

# The machine is shared, and here nothing is said about time: let no answer be too slow.
PATIENCE_MS = 5000
MAX_ENTRIES = 10_000


def discovered() -> set[type]:
    """Every class of the package that has the methods of the protocol."""
    found: set[type] = set()
    for module_info in pkgutil.iter_modules(cache.__path__, "cache."):
        module = importlib.import_module(module_info.name)
        for _, member in inspect.getmembers(module, inspect.isclass):
            methods = all(callable(getattr(member, name, None)) for name in METHODS)
            if methods and member.__module__ == module.__name__ and member is not ScoreCache:
                found.add(member)
    return found


METHODS = ("get_many", "set_many", "close")


def memory(clock: HandClock) -> MemoryStore:
    return MemoryStore(max_entries=MAX_ENTRIES, clock=clock)


def guarded(clock: HandClock) -> GuardedCache:
    return GuardedCache(
        memory(clock), breaker=BreakerConfig(), clock=clock, front=memory(clock), front_ttl_s=60
    )


def opened(url: str | None) -> ScoreCache:
    return open_cache(
        url,
        timeout_ms=PATIENCE_MS,
        max_entries=MAX_ENTRIES,
        breaker=BreakerConfig(),
        clock=RealClock(),
    )


Build = Callable[[HandClock, str], ScoreCache]
BUILDERS: dict[type, Build] = {
    MemoryStore: lambda clock, url: memory(clock),
    RedisStore: lambda clock, url: RedisStore(url, timeout_ms=PATIENCE_MS),
    BoundedStore: lambda clock, url: BoundedStore(memory(clock), timeout_ms=PATIENCE_MS),
    GuardedCache: lambda clock, url: guarded(clock),
    WriteBehind: lambda clock, url: WriteBehind(memory(clock)),
}
COMPOSED: dict[str, Build] = {
    "open_cache(memory)": lambda clock, url: opened(None),
    "open_cache(redis)": lambda clock, url: opened(url),
}
SUBJECTS: dict[str, Build] = {
    **{implementation.__name__: build for implementation, build in BUILDERS.items()},
    **COMPOSED,
}


def test_every_implementation_is_in_the_battery() -> None:
    assert discovered() == set(BUILDERS)
    assert len(BUILDERS) == 5


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=SUBJECTS)
def store(
    request: pytest.FixtureRequest, clock: HandClock, redis_server: EmbeddedRedis
) -> Iterator[ScoreCache]:
    subject = SUBJECTS[request.param](clock, redis_server.url)
    yield subject
    subject.close()


@pytest.fixture
def key() -> Callable[[object], bytes]:
    """Names that no other test uses: one Redis serves them all."""
    prefix = uuid.uuid4().bytes
    return lambda name: prefix + str(name).encode()


Key = Callable[[object], bytes]


def test_what_was_never_stored_is_none(store: ScoreCache, key: Key) -> None:
    assert store.get_many([key(1), key(2)]) == [None, None]


def test_nothing_asked_nothing_answered(store: ScoreCache, key: Key) -> None:
    store.set_many([], 60)
    assert store.get_many([]) == []


def test_answers_are_in_the_order_of_the_questions(store: ScoreCache, key: Key) -> None:
    store.set_many([(key("a"), b"1"), (key("b"), b"2")], 60)
    asked = [key("b"), key("gone"), key("a"), key("b")]
    assert store.get_many(asked) == [b"2", None, b"1", b"2"]


def test_any_bytes_come_back_as_they_were(store: ScoreCache, key: Key) -> None:
    values = [b"", b"\x00\xff\r\n$-1\r\n", bytes(range(256)) * 400]
    store.set_many([(key(at) + b"\x00\r\n ", value) for at, value in enumerate(values)], 60)
    assert store.get_many([key(at) + b"\x00\r\n " for at in range(3)]) == values


def test_the_last_value_of_a_key_wins(store: ScoreCache, key: Key) -> None:
    store.set_many([(key("a"), b"old"), (key("a"), b"newer")], 60)
    assert store.get_many([key("a")]) == [b"newer"]
    store.set_many([(key("a"), b"newest")], 60)
    assert store.get_many([key("a")]) == [b"newest"]


def test_batches_may_be_larger_than_one_exchange(store: ScoreCache, key: Key) -> None:
    count = 2 * EXCHANGE_KEYS + 1
    items = [(key(at), str(at).encode()) for at in range(count)]
    store.set_many(items, 60)
    assert store.get_many([name for name, _ in items]) == [value for _, value in items]


def test_values_expire_and_not_before(store: ScoreCache, key: Key, clock: HandClock) -> None:
    store.set_many([(key("long"), b"1")], 60)
    store.set_many([(key("short"), b"2")], 2)
    if isinstance(store, WriteBehind):
        assert store.flush(5000)
    assert store.get_many([key("short"), key("long")]) == [b"2", b"1"]
    clock.advance_ms(2000)
    eventually(lambda: store.get_many([key("short")]) == [None])
    assert store.get_many([key("long")]) == [b"1"]


@pytest.mark.parametrize("ttl_s", [0, -1])
def test_a_value_without_a_life_is_a_mistake_of_the_program(
    store: ScoreCache, key: Key, ttl_s: int
) -> None:
    with pytest.raises(AssertionError):
        store.set_many([(key("a"), b"1")], ttl_s)


def test_threads_share_it(store: ScoreCache, key: Key) -> None:
    wrong: list[object] = []

    def work(worker: int) -> None:
        try:
            for turn in range(50):
                name = key((worker, turn))
                store.set_many([(name, name), (key("shared"), b"x" * worker)], 60)
                own, shared = store.get_many([name, key("shared")])
                if own != name or shared is None:
                    wrong.append((worker, turn, own, shared))
        except Exception as error:  # noqa: BLE001 - reported by the assertion below
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_twice_is_closing_once(store: ScoreCache, key: Key) -> None:
    store.set_many([(key("a"), b"1")], 60)
    store.get_many([key("a")])
    store.close()
    store.close()
