"""The time limit holds whatever the store does."""

import threading
import time
from collections.abc import Iterator

import pytest

from cache.bounded import MAX_HELPERS, MAX_WAITING, BoundedStore
from cache.protocol import EXCHANGE_KEYS
from streams.errors import CacheError
from tests.cache.cache_kit import ToyStore, eventually

TIMEOUT_MS = 30


@pytest.fixture
def toy() -> Iterator[ToyStore]:
    store = ToyStore()
    yield store
    store.pass_reads.set()


def test_a_store_that_hangs_is_waited_for_so_long_and_no_longer(toy: ToyStore) -> None:
    toy.pass_reads.clear()
    bounded = BoundedStore(toy, timeout_ms=TIMEOUT_MS)
    start = time.monotonic()
    with pytest.raises(CacheError, match="no answer within 30 ms"):
        bounded.get_many([b"a"])
    assert 0.029 <= time.monotonic() - start < 1.0
    bounded.close()


def test_it_answers_again_once_the_store_does(toy: ToyStore) -> None:
    toy.set_many([(b"a", b"1")], 60)
    bounded = BoundedStore(toy, timeout_ms=TIMEOUT_MS)
    toy.pass_reads.clear()
    for _ in range(MAX_HELPERS + 2):
        with pytest.raises(CacheError):
            bounded.get_many([b"late"])
    toy.pass_reads.set()

    def answers() -> bool:
        try:
            return bounded.get_many([b"a"]) == [b"1"]
        except CacheError:
            return False

    eventually(answers)
    assert toy.reads.count([b"late"]) <= MAX_HELPERS, "abandoned reads are not made up for"
    bounded.close()


def test_helpers_are_few_and_go_home(toy: ToyStore) -> None:
    others = set(threading.enumerate())

    def helpers() -> int:
        fresh = set(threading.enumerate()) - others
        return sum(thread.name == "cache-read" for thread in fresh)

    bounded = BoundedStore(toy, timeout_ms=5000)
    for _ in range(50):
        bounded.get_many([b"a"])
    assert helpers() == 1, "one caller needs one helper"
    toy.pass_reads.clear()
    callers = [threading.Thread(target=bounded.get_many, args=([b"a"],)) for _ in range(8)]
    for caller in callers:
        caller.start()
    eventually(lambda: helpers() == MAX_HELPERS)
    toy.pass_reads.set()
    for caller in callers:
        caller.join()
    assert helpers() == MAX_HELPERS
    bounded.close()
    eventually(lambda: helpers() == 0)
    assert toy.closed == 1


def test_waiting_calls_are_bounded(toy: ToyStore) -> None:
    toy.pass_reads.clear()
    bounded = BoundedStore(toy, timeout_ms=60_000)
    most = MAX_HELPERS + MAX_WAITING
    callers = [threading.Thread(target=bounded.get_many, args=([b"a"],)) for _ in range(most)]
    for caller in callers:
        caller.start()
    eventually(lambda: bounded._open_calls == most)
    with pytest.raises(CacheError, match="too many reads"):
        bounded.get_many([b"a"])
    toy.pass_reads.set()
    for caller in callers:
        caller.join()
    assert len(toy.reads) == most
    bounded.close()


def test_the_stores_own_error_reaches_the_caller(toy: ToyStore) -> None:
    toy.fail_reads = True
    bounded = BoundedStore(toy, timeout_ms=5000)
    with pytest.raises(CacheError, match="toy: no reads"):
        bounded.get_many([b"a"])
    bounded.close()


def test_a_closed_one_says_so(toy: ToyStore) -> None:
    bounded = BoundedStore(toy, timeout_ms=5000)
    bounded.close()
    with pytest.raises(CacheError, match="closed"):
        bounded.get_many([b"a"])


def test_closing_does_not_wait_for_a_store_that_hangs(toy: ToyStore) -> None:
    toy.pass_reads.clear()
    bounded = BoundedStore(toy, timeout_ms=1)
    with pytest.raises(CacheError):
        bounded.get_many([b"a"])
    start = time.monotonic()
    bounded.close()
    assert time.monotonic() - start < 1.0


def test_a_large_batch_is_read_in_parts_and_a_hanging_store_given_up_with_the_first(
    toy: ToyStore,
) -> None:
    keys = [b"%d" % number for number in range(2 * EXCHANGE_KEYS + 1)]
    toy.set_many([(key, key) for key in keys], 60)
    bounded = BoundedStore(toy, timeout_ms=5000)
    assert bounded.get_many(keys) == keys
    assert [len(part) for part in toy.reads] == [EXCHANGE_KEYS, EXCHANGE_KEYS, 1]
    bounded.close()

    hurried = BoundedStore(toy, timeout_ms=TIMEOUT_MS)
    toy.pass_reads.clear()
    with pytest.raises(CacheError):
        hurried.get_many(keys)
    assert len(toy.reads) <= 4
    hurried.close()
