"""Writes that nobody waits for, and none that goes missing silently."""

import time
from collections.abc import Iterator

import pytest

from cache.write_behind import WriteBehind
from tests.cache.cache_kit import ToyStore, Witness, eventually


@pytest.fixture
def toy() -> Iterator[ToyStore]:
    store = ToyStore()
    yield store
    store.pass_writes.set()


def items(*pairs: str) -> list[tuple[bytes, bytes]]:
    """`items("a1")` is the pair (b"a", b"1")."""
    return [(pair[:1].encode(), pair[1:].encode()) for pair in pairs]


def occupied(toy: ToyStore, cache: WriteBehind) -> None:
    """Returns when the writer stands inside the store, which holds it."""
    toy.pass_writes.clear()
    cache.set_many(items("z0"), 60)
    assert toy.entered.acquire(timeout=5)


def test_what_is_written_arrives_by_itself(toy: ToyStore) -> None:
    cache = WriteBehind(toy)
    cache.set_many(items("a1", "b2"), 60)
    eventually(lambda: toy.batches == [(items("a1", "b2"), 60)])
    cache.close()


def test_the_caller_is_not_held_up_by_a_store_that_hangs(toy: ToyStore) -> None:
    cache = WriteBehind(toy, close_timeout_ms=1)
    occupied(toy, cache)
    start = time.monotonic()
    for _ in range(100):
        cache.set_many(items("a1"), 60)
    assert time.monotonic() - start < 1.0
    cache.close()


def test_the_last_value_of_an_entity_is_the_one_that_is_stored(toy: ToyStore) -> None:
    cache = WriteBehind(toy)
    occupied(toy, cache)
    cache.set_many(items("a1", "b1"), 60)
    cache.set_many(items("a2"), 60)
    cache.set_many(items("a3"), 60)
    toy.pass_writes.set()
    start = time.monotonic()
    assert cache.flush(60_000)
    assert time.monotonic() - start < 10.0, "it is told of the end, it does not wait for its time"
    assert toy.batches == [(items("z0"), 60), (items("a3", "b1"), 60)]
    cache.close()


def test_reads_see_what_is_on_its_way(toy: ToyStore) -> None:
    toy.content[b"b"] = (b"stored", 60)
    cache = WriteBehind(toy)
    occupied(toy, cache)
    cache.set_many(items("a1"), 60)
    assert cache.get_many([b"a", b"z", b"b", b"c"]) == [b"1", b"0", b"stored", None]
    assert toy.reads == [[b"b", b"c"]]
    cache.set_many(items("z9"), 60)
    assert cache.get_many([b"z"]) == [b"9"], "the newer one, though the older is being written"
    toy.pass_writes.set()
    assert cache.flush(5000)
    assert toy.content[b"z"] == (b"9", 60)
    cache.close()


def test_those_that_wait_longest_are_dropped_and_counted(toy: ToyStore) -> None:
    seen = Witness()
    cache = WriteBehind(toy, max_pending=2, observer=seen)
    occupied(toy, cache)
    cache.set_many(items("a1", "b1"), 60)
    cache.set_many(items("a2"), 60)
    assert seen.dropped_values == 0
    cache.set_many(items("c1"), 60)
    assert seen.dropped_values == 1
    assert cache.get_many([b"a"]) == [None]
    cache.set_many(items("d1", "e1", "f1"), 60)
    assert seen.dropped_values == 4
    toy.pass_writes.set()
    assert cache.flush(5000)
    assert toy.batches[1:] == [(items("e1", "f1"), 60)]
    cache.close()


def test_batches_are_bounded(toy: ToyStore) -> None:
    cache = WriteBehind(toy, max_batch=2)
    occupied(toy, cache)
    cache.set_many(items("a1", "b1", "c1", "d1", "e1"), 60)
    toy.pass_writes.set()
    assert cache.flush(5000)
    assert toy.batches[1:] == [
        (items("a1", "b1"), 60),
        (items("c1", "d1"), 60),
        (items("e1"), 60),
    ]
    cache.close()


def test_each_value_keeps_its_own_time_to_live(toy: ToyStore) -> None:
    cache = WriteBehind(toy)
    occupied(toy, cache)
    cache.set_many(items("a1"), 60)
    cache.set_many(items("b1"), 5)
    cache.set_many(items("c1"), 60)
    toy.pass_writes.set()
    assert cache.flush(5000)
    assert toy.batches[1:] == [(items("a1", "c1"), 60), (items("b1"), 5)]
    cache.close()


def test_a_lone_value_waits_for_company_but_a_full_batch_does_not(toy: ToyStore) -> None:
    cache = WriteBehind(toy, max_batch=3, linger_ms=60_000)
    cache.set_many(items("a1"), 60)
    cache.set_many(items("b1"), 60)
    assert not toy.entered.acquire(timeout=0.05)
    cache.set_many(items("c1"), 60)
    assert toy.entered.acquire(timeout=5)
    cache.close()
    assert toy.batches == [(items("a1", "b1", "c1"), 60)]


def test_flush_does_not_linger(toy: ToyStore) -> None:
    cache = WriteBehind(toy, linger_ms=60_000)
    cache.set_many(items("a1"), 60)
    assert cache.flush(5000)
    assert toy.batches == [(items("a1"), 60)]
    cache.set_many(items("b1"), 60)
    toy.entered.acquire()
    assert not toy.entered.acquire(timeout=0.05), "and afterwards it does again"
    cache.close()


def test_flush_tells_when_it_took_too_long(toy: ToyStore) -> None:
    cache = WriteBehind(toy, close_timeout_ms=1)
    occupied(toy, cache)
    assert not cache.flush(5)
    cache.close()


def test_closing_hands_over_what_waits(toy: ToyStore) -> None:
    seen = Witness()
    cache = WriteBehind(toy, linger_ms=60_000, observer=seen)
    cache.set_many(items("a1"), 60)
    cache.close()
    assert toy.batches == [(items("a1"), 60)]
    assert toy.closed == 1
    assert seen.dropped_values == 0


def test_closing_is_bounded_and_what_is_left_is_counted(toy: ToyStore) -> None:
    seen = Witness()
    cache = WriteBehind(toy, close_timeout_ms=20, max_batch=1, observer=seen)
    toy.pass_writes.clear()
    cache.set_many(items("z0", "y0"), 60)
    assert toy.entered.acquire(timeout=5)
    cache.set_many(items("a1", "b1"), 60)
    start = time.monotonic()
    cache.close()
    assert 0.019 <= time.monotonic() - start < 1.0
    assert seen.dropped_values == 4
    assert toy.closed == 1
    toy.pass_writes.set()
    eventually(lambda: not cache._writer.is_alive())
    assert toy.batches == [(items("z0"), 60)], "nothing is written after the end"


def test_what_comes_after_the_end_is_dropped_and_counted(toy: ToyStore) -> None:
    seen = Witness()
    cache = WriteBehind(toy, observer=seen)
    cache.close()
    cache.set_many(items("a1", "b1"), 60)
    assert seen.dropped_values == 2
    assert toy.batches == []


def test_a_store_that_fails_costs_its_values_and_not_the_writer(toy: ToyStore) -> None:
    seen = Witness()
    cache = WriteBehind(toy, observer=seen)
    toy.fail_writes = True
    cache.set_many(items("a1", "b1"), 60)
    assert cache.flush(5000)
    assert seen.failures == [("write", "toy: no writes")]
    assert seen.dropped_values == 2
    toy.fail_writes = False
    cache.set_many(items("c1"), 60)
    assert cache.flush(5000)
    assert toy.batches == [(items("c1"), 60)]
    cache.close()


@pytest.mark.parametrize("wrong", [{"max_pending": 0}, {"max_batch": 0}])
def test_an_impossible_configuration_is_refused(toy: ToyStore, wrong: dict[str, int]) -> None:
    with pytest.raises(AssertionError):
        WriteBehind(toy, **wrong)
