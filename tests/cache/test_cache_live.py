"""The whole cache, as the scorer uses it, while a real Redis dies, hangs, fills up and returns."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import redis

from cache.guarded import GuardedCache
from cache.opening import open_cache
from cache.prediction_cache import CachedModel
from cache.protocol import ScoreCache
from cache.write_behind import WriteBehind
from streams.breaker import BreakerConfig, BreakerState
from streams.embedded import EmbeddedRedis
from tests.cache.cache_kit import RealClock, Witness, eventually

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
TIMEOUT_MS = 20
# Where nothing is said about time: a healthy Redis on a busy machine is not to be taken for ill.
PATIENCE_MS = 200
# The timeout, and what a busy machine may add before the caller runs again.
ONE_STALL_S = 0.25
RECOVERY_S = 5.0


@contextmanager
def opened(
    url: str,
    seen: Witness,
    breaker: BreakerConfig = BreakerConfig(),  # noqa: B008 - frozen
    timeout_ms: int = PATIENCE_MS,
) -> Iterator[WriteBehind]:
    cache = open_cache(
        url,
        timeout_ms=timeout_ms,
        max_entries=100_000,
        breaker=breaker,
        clock=RealClock(),
        observer=seen,
    )
    assert isinstance(cache, WriteBehind)
    try:
        yield cache
    finally:
        cache.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path) as embedded:
        yield embedded


def stored(cache: WriteBehind, key: bytes, value: bytes) -> None:
    cache.set_many([(key, value)], 60)
    assert cache.flush(5000)


def asked(cache: WriteBehind, key: bytes) -> bytes | None:
    """The value as Redis has it: the front has forgotten everything."""
    guarded = cache._store
    assert isinstance(guarded, GuardedCache)
    assert guarded._front is not None
    guarded._front.close()
    return cache.get_many([key])[0]


def recovered(cache: WriteBehind, key: bytes, value: bytes) -> None:
    eventually(lambda: asked(cache, key) == value, RECOVERY_S)


def opens(cache: ScoreCache, seen: Witness) -> None:
    """Read in vain until the breaker of reads is open."""

    def is_open() -> bool:
        assert cache.get_many([b"absent"]) == [None]
        return ("read", OPEN) in seen.states

    eventually(is_open)


def test_it_keeps_what_it_is_given(server: EmbeddedRedis) -> None:
    seen = Witness()
    with opened(server.url, seen) as cache:
        stored(cache, b"a", b"1")
        recovered(cache, b"a", b"1")
        assert seen.dropped_values == 0
    with redis.Redis.from_url(server.url) as client:
        assert client.get(b"a") == b"1"


def test_what_was_written_last_is_there_after_closing(server: EmbeddedRedis) -> None:
    with opened(server.url, Witness()) as cache:
        cache.set_many([(b"%d" % number, b"x") for number in range(3000)], 60)
    with redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 3000


def test_down_at_the_start_it_is_used_once_it_is_up(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    seen = Witness()
    with opened(server.url, seen) as cache:
        opens(cache, seen)
        stored(cache, b"lost", b"1")
        server.start()
        try:

            def written() -> bool:
                stored(cache, b"a", b"2")
                return asked(cache, b"a") == b"2"

            eventually(written, RECOVERY_S)
        finally:
            server.stop()


def test_killed_and_restarted_it_comes_back_within_five_seconds(server: EmbeddedRedis) -> None:
    seen = Witness()
    with opened(server.url, seen) as cache:
        stored(cache, b"a", b"1")
        recovered(cache, b"a", b"1")
        server.kill()
        opens(cache, seen)
        server.start()
        recovered(cache, b"a", b"1")
        assert seen.states[-1] == ("read", CLOSED)


def test_a_restart_between_two_calls_is_hardly_seen(server: EmbeddedRedis) -> None:
    seen = Witness()
    with opened(server.url, seen) as cache:
        stored(cache, b"a", b"1")
        recovered(cache, b"a", b"1")
        server.restart()
        recovered(cache, b"a", b"1")
        assert seen.states == []


def test_hung_it_costs_one_timeout_a_call_and_then_microseconds(server: EmbeddedRedis) -> None:
    seen = Witness()
    # A cool-down longer than the test: no probe disturbs what is measured.
    patient = BreakerConfig(failures=3, cool_down_ms=600_000)
    with opened(server.url, seen, patient, TIMEOUT_MS) as cache:
        cache.get_many([b"warm"])
        os.kill(server.pid, signal.SIGSTOP)
        try:
            while ("read", OPEN) not in seen.states:
                start = time.monotonic()
                assert cache.get_many([b"absent"]) == [None]
                assert time.monotonic() - start < ONE_STALL_S
            assert len(seen.failures) == 3
            # The best of many: the machine is shared, the code is not.
            best_s = min(timed(cache) for _ in range(200))
            assert best_s < 100e-6
            start = time.monotonic()
            cache.set_many([(b"a", b"1")], 60)
            assert time.monotonic() - start < ONE_STALL_S
        finally:
            os.kill(server.pid, signal.SIGCONT)


def timed(cache: ScoreCache) -> float:
    start = time.monotonic()
    assert cache.get_many([b"absent"]) == [None]
    return time.monotonic() - start


def test_hung_and_awake_again_it_comes_back_within_five_seconds(server: EmbeddedRedis) -> None:
    seen = Witness()
    with opened(server.url, seen) as cache:
        stored(cache, b"a", b"1")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            opens(cache, seen)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        recovered(cache, b"a", b"1")


def test_a_hung_server_does_not_delay_the_end(server: EmbeddedRedis) -> None:
    with opened(server.url, Witness()) as cache:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            cache.set_many([(b"%d" % number, b"x") for number in range(5000)], 60)
            start = time.monotonic()
            cache.close()
            assert time.monotonic() - start < 3.0
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_full_it_refuses_writes_and_still_answers(server: EmbeddedRedis) -> None:
    seen = Witness()
    with opened(server.url, seen) as cache, redis.Redis.from_url(server.url) as client:
        stored(cache, b"a", b"1")
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        for _ in range(5):
            stored(cache, b"b", b"2")
        assert ("write", OPEN) in seen.states
        assert "its memory is full" in seen.failures[0][1]
        assert seen.dropped_values == 5
        recovered(cache, b"a", b"1")
        assert ("read", OPEN) not in seen.states
        client.config_set("maxmemory", 0)
        write_recovers(cache, seen)


def write_recovers(cache: WriteBehind, seen: Witness) -> None:
    def written() -> bool:
        stored(cache, b"again", b"3")
        return seen.states[-1] == ("write", CLOSED)

    eventually(written, RECOVERY_S)
    recovered(cache, b"again", b"3")


def test_a_read_only_replica_is_read(server: EmbeddedRedis, redis_server: EmbeddedRedis) -> None:
    seen = Witness()
    with opened(server.url, seen) as cache, redis.Redis.from_url(server.url) as client:
        stored(cache, b"a", b"1")
        with redis.Redis.from_url(redis_server.url) as primary:
            primary.set(b"a", b"of the primary", ex=60)
        client.replicaof("127.0.0.1", redis_server.port)
        eventually(lambda: client.info("replication")["master_link_status"] == "up", 30)
        for _ in range(5):
            stored(cache, b"b", b"2")
        assert ("write", OPEN) in seen.states
        assert any("read-only replica" in failure for _, failure in seen.failures)
        recovered(cache, b"a", b"of the primary")
        client.replicaof("NO", "ONE")
        write_recovers(cache, seen)


def test_a_wrong_password_costs_misses_and_is_not_told(server: EmbeddedRedis) -> None:
    seen = Witness()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right")
        wrong = server.url.replace("redis://", "redis://:wr0ng-secret@")
        with opened(wrong, seen) as cache:
            opens(cache, seen)
            assert all("does not accept the user or password" in text for _, text in seen.failures)
            assert "wr0ng-secret" not in str(seen.failures)
            client.config_set("requirepass", "wr0ng-secret")
            stored(cache, b"a", b"1")
            recovered(cache, b"a", b"1")


def test_no_password_where_one_is_needed_costs_misses(server: EmbeddedRedis) -> None:
    seen = Witness()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "right")
        with opened(server.url, seen) as cache:
            opens(cache, seen)
            client.config_set("requirepass", "")
            stored(cache, b"a", b"1")
            recovered(cache, b"a", b"1")


class Counting:
    """Takes its time for each call, and counts rows by their content."""

    name, version, minimum, maximum, columns = "counting", "1", 0.0, 1.0, 1

    def __init__(self) -> None:
        self.computed: dict[float, int] = {}

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        threading.Event().wait(0.02)
        for x in matrix[:, 0].tolist():
            self.computed[x] = self.computed.get(x, 0) + 1
        return matrix[:, 0]


@pytest.mark.parametrize("state", ["there", "hung", "gone"])
def test_a_burst_on_a_cold_cache_computes_each_key_once(server: EmbeddedRedis, state: str) -> None:
    """40,000 events of four contents, on eight threads, whatever becomes of Redis."""
    model, seen = Counting(), Witness()
    burst = np.tile(np.array([[0.1], [0.2], [0.3], [0.4]]), (125, 1))
    start, wrong = threading.Barrier(8), list[int]()

    def work() -> None:
        start.wait()
        for number in range(20):
            rows = burst[number % 2 :: 2]
            if not np.array_equal(cached.predict(rows), rows[:, 0]):
                wrong.append(number)

    if state == "gone":
        server.stop()
    with opened(server.url, seen, timeout_ms=TIMEOUT_MS) as cache:
        cached = CachedModel(model, cache, ttl_s=60)
        if state == "hung":
            os.kill(server.pid, signal.SIGSTOP)
        try:
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            if state == "hung":
                os.kill(server.pid, signal.SIGCONT)
    assert wrong == []
    assert model.computed == {0.1: 1, 0.2: 1, 0.3: 1, 0.4: 1}
    assert state == "there" or seen.failures
