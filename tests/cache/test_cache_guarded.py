"""A store in trouble costs misses; the front and the two breakers do the rest."""

import pytest

from cache.guarded import GuardedCache
from cache.memory import MemoryStore
from streams.breaker import BreakerConfig, BreakerState
from tests.cache.cache_kit import HandClock, ToyStore, Witness

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Rig:
    """A guarded toy store, with everything around it in reach."""

    def __init__(self, *, front: bool) -> None:
        self.clock = HandClock()
        self.store = ToyStore()
        self.seen = Witness()
        self.front = MemoryStore(max_entries=100, clock=self.clock)
        self.cache = GuardedCache(
            self.store,
            breaker=BreakerConfig(failures=3, cool_down_ms=1000),
            clock=self.clock,
            front=self.front if front else None,
            front_ttl_s=60,
            observer=self.seen,
        )


@pytest.fixture
def bare() -> Rig:
    return Rig(front=False)


@pytest.fixture
def fronted() -> Rig:
    return Rig(front=True)


def test_hits_and_misses_are_counted(bare: Rig) -> None:
    bare.cache.set_many([(b"a", b"1")], 60)
    assert bare.cache.get_many([b"a", b"b", b"c"]) == [b"1", None, None]
    assert (bare.seen.hits, bare.seen.misses) == (1, 2)


def test_a_failing_read_is_a_miss_and_is_reported(bare: Rig) -> None:
    bare.store.fail_reads = True
    assert bare.cache.get_many([b"a", b"b"]) == [None, None]
    assert bare.seen.failures == [("read", "toy: no reads")]
    assert (bare.seen.hits, bare.seen.misses) == (0, 2)


def test_a_failing_write_is_dropped_and_reported(bare: Rig) -> None:
    bare.store.fail_writes = True
    bare.cache.set_many([(b"a", b"1"), (b"b", b"2")], 60)
    assert bare.seen.failures == [("write", "toy: no writes")]
    assert bare.seen.dropped_values == 2


def test_after_three_failures_the_store_is_left_alone(bare: Rig) -> None:
    bare.store.fail_reads = True
    for _ in range(10):
        assert bare.cache.get_many([b"a"]) == [None]
    assert len(bare.store.reads) == 3
    assert bare.cache.read_state is OPEN
    assert bare.seen.misses == 10


def test_one_probe_after_the_cool_down_brings_it_back(bare: Rig) -> None:
    bare.cache.set_many([(b"a", b"1")], 60)
    bare.store.fail_reads = True
    for _ in range(3):
        bare.cache.get_many([b"a"])
    bare.clock.advance_ms(1000)
    assert bare.cache.get_many([b"a"]) == [None]
    bare.store.fail_reads = False
    assert bare.cache.get_many([b"a"]) == [None], "still cooling down"
    bare.clock.advance_ms(1000)
    assert bare.cache.get_many([b"a"]) == [b"1"]
    assert bare.cache.read_state is CLOSED
    assert bare.seen.states == [
        ("read", OPEN), ("read", HALF_OPEN), ("read", OPEN), ("read", HALF_OPEN), ("read", CLOSED),
    ]  # fmt: skip


def test_a_store_that_refuses_writes_is_still_read(bare: Rig) -> None:
    bare.cache.set_many([(b"a", b"1")], 60)
    bare.store.fail_writes = True
    for _ in range(5):
        bare.cache.set_many([(b"b", b"2")], 60)
    assert bare.cache.write_state is OPEN
    assert bare.seen.dropped_values == 5
    assert len(bare.seen.failures) == 3
    assert bare.cache.read_state is CLOSED
    assert bare.cache.get_many([b"a"]) == [b"1"]


def test_writes_come_back_by_themselves(bare: Rig) -> None:
    bare.store.fail_writes = True
    for _ in range(3):
        bare.cache.set_many([(b"a", b"1")], 60)
    bare.store.fail_writes = False
    bare.clock.advance_ms(1000)
    bare.cache.set_many([(b"a", b"2")], 60)
    assert bare.cache.write_state is CLOSED
    assert bare.store.content[b"a"] == (b"2", 60)


def test_nothing_to_write_is_no_call(bare: Rig) -> None:
    bare.cache.set_many([], 60)
    assert bare.store.batches == []


def test_the_front_answers_first_and_only_the_rest_is_asked_for(fronted: Rig) -> None:
    fronted.cache.set_many([(b"a", b"1")], 60)
    fronted.store.content[b"b"] = (b"2", 60)
    assert fronted.cache.get_many([b"b", b"a", b"c"]) == [b"2", b"1", None]
    assert fronted.store.reads == [[b"b", b"c"]]
    assert fronted.cache.get_many([b"a", b"b"]) == [b"1", b"2"]
    assert fronted.store.reads == [[b"b", b"c"]], "what was found once is in the front"
    assert (fronted.seen.hits, fronted.seen.misses) == (4, 1)


def test_the_front_bridges_a_store_that_is_away(fronted: Rig) -> None:
    fronted.store.fail_reads = fronted.store.fail_writes = True
    fronted.cache.set_many([(b"a", b"1")], 60)
    assert fronted.cache.get_many([b"a"]) == [b"1"]


@pytest.mark.parametrize(("ttl_s", "alive_ms"), [(5, 5_000), (86_400, 60_000)])
def test_the_front_keeps_a_value_for_its_time_but_not_for_long(
    fronted: Rig, ttl_s: int, alive_ms: int
) -> None:
    fronted.cache.set_many([(b"a", b"1")], ttl_s)
    fronted.clock.advance_ms(alive_ms - 1)
    assert fronted.front.get_many([b"a"]) == [b"1"]
    fronted.clock.advance_ms(1)
    assert fronted.front.get_many([b"a"]) == [None]


def test_what_another_process_stores_is_seen_a_second_after_reading(fronted: Rig) -> None:
    fronted.store.content[b"a"] = (b"old", 3600)
    assert fronted.cache.get_many([b"a"]) == [b"old"]
    fronted.store.content[b"a"] = (b"new", 3600)
    fronted.clock.advance_ms(999)
    assert fronted.cache.get_many([b"a"]) == [b"old"]
    fronted.clock.advance_ms(1)
    assert fronted.cache.get_many([b"a"]) == [b"new"]


def test_what_was_read_just_before_its_end_does_not_live_on_in_the_front(fronted: Rig) -> None:
    fronted.cache.set_many([(b"a", b"1")], 5)
    fronted.clock.advance_ms(5000)
    assert fronted.cache.get_many([b"a"]) == [b"1"], "it came later to the store than to the front"
    del fronted.store.content[b"a"]
    fronted.clock.advance_ms(1000)
    assert fronted.cache.get_many([b"a"]) == [None]


def test_closing_closes_both(fronted: Rig) -> None:
    fronted.cache.set_many([(b"a", b"1")], 60)
    fronted.cache.close()
    assert fronted.store.closed == 1
    assert len(fronted.front) == 0
