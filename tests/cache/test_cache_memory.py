"""The in-process store against a model that is too simple to be wrong."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache.memory import MemoryStore
from tests.cache.cache_kit import HandClock

PLACES = 4
KEYS = st.sampled_from([bytes([number]) for number in range(7)])


class LeastRecentlyUsed(RuleBasedStateMachine):
    """The model is a list of (key, value, expiry), the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.store = MemoryStore(max_entries=PLACES, clock=self.clock)
        self.entries: list[tuple[bytes, bytes, int]] = []

    @rule(
        items=st.lists(st.tuples(KEYS, st.binary(max_size=2)), max_size=6),
        ttl_s=st.integers(1, 3),
    )
    def store_some(self, items: list[tuple[bytes, bytes]], ttl_s: int) -> None:
        self.store.set_many(items, ttl_s)
        expires_ns = self.clock.monotonic_ns() + ttl_s * 1_000_000_000
        for key, value in items:
            self.entries = [entry for entry in self.entries if entry[0] != key]
            self.entries.append((key, value, expires_ns))
            self.entries = self.entries[-PLACES:]

    @rule(keys=st.lists(KEYS, max_size=6))
    def ask_some(self, keys: list[bytes]) -> None:
        expected: list[bytes | None] = []
        for key in keys:
            found = [entry for entry in self.entries if entry[0] == key]
            self.entries = [entry for entry in self.entries if entry[0] != key]
            alive = [entry for entry in found if self.clock.monotonic_ns() < entry[2]]
            self.entries += alive
            expected.append(alive[0][1] if alive else None)
        assert self.store.get_many(keys) == expected

    @rule(duration_ms=st.sampled_from([1, 999, 1000, 1001, 2999]))
    def time_passes(self, duration_ms: int) -> None:
        self.clock.advance_ms(duration_ms)

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.store) == len(self.entries) <= PLACES


TestLeastRecentlyUsed = LeastRecentlyUsed.TestCase


def test_a_value_lives_to_the_last_nanosecond_of_its_time() -> None:
    clock = HandClock()
    store = MemoryStore(max_entries=1, clock=clock)
    store.set_many([(b"a", b"1")], 2)
    clock.advance_ms(1999)
    assert store.get_many([b"a"]) == [b"1"]
    clock.advance_ms(1)
    assert store.get_many([b"a"]) == [None]
    assert len(store) == 0


def test_closing_forgets() -> None:
    store = MemoryStore(max_entries=1, clock=HandClock())
    store.set_many([(b"a", b"1")], 2)
    store.close()
    assert len(store) == 0


def test_a_store_without_places_is_a_mistake_of_the_program() -> None:
    with pytest.raises(AssertionError):
        MemoryStore(max_entries=0, clock=HandClock())
