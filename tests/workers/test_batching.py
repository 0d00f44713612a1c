"""Micro-batches: nothing is lost, doubled or reordered, and nothing copied needlessly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.batching import FIRST_LIMIT, LONG_CALL_NS, BatchLimit, Mailbox, RecordBatch

COLUMNS = 3


def batch(rows: int, *, partition: int = 0, first: int = 0, ticket: int = 0) -> RecordBatch:
    """Offsets from `first` on; each row of the matrix holds its offset and its partition."""
    offsets = np.arange(first, first + rows)
    matrix = np.zeros((rows, COLUMNS))
    matrix[:, 0], matrix[:, 1] = offsets, partition
    return RecordBatch("events", partition, offsets, matrix, 1000 + ticket, ticket)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=20),
    limits=st.lists(st.integers(1, 40), min_size=1),
)
def test_every_row_leaves_once_in_order_beside_its_features(sizes, limits):
    mailbox, firsts, expected = Mailbox(), dict.fromkeys(range(4), 0), []
    for ticket, (rows, partition) in enumerate(sizes):
        one = batch(rows, partition=partition, first=firsts[partition], ticket=ticket)
        firsts[partition] += rows
        expected += [(partition, offset, ticket) for offset in one.offsets.tolist()]
        mailbox.put(one)
    taken, turn = [], 0
    while len(mailbox):
        waiting, limit = len(mailbox), limits[turn % len(limits)]
        micro = mailbox.take(limit)
        turn += 1
        assert len(micro) == min(waiting, limit)
        assert len(mailbox) == waiting - len(micro)
        assert micro.matrix[:, 0].tolist() == [o for p in micro.parts for o in p.offsets.tolist()]
        taken += [(p.partition, o, p.ticket) for p in micro.parts for o in p.offsets.tolist()]
    assert taken == expected


@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=9))
def test_rows_find_their_partition_again(sizes):
    mailbox, first = Mailbox(), 0
    for rows, partition in sizes:
        mailbox.put(batch(rows, partition=partition, first=first))
        first += rows
    micro = mailbox.take(first)
    seen = []
    for parts, rows, offsets in micro.places:
        assert len({part.partition for part in parts}) == 1
        assert offsets.tolist() == [o for part in parts for o in part.offsets.tolist()]
        assert micro.matrix[rows, 0].tolist() == offsets.tolist()
        assert set(micro.matrix[rows, 1].tolist()) == {parts[0].partition}
        seen += rows.tolist()
    assert sorted(seen) == list(range(first))


def test_each_model_has_a_matrix_of_its_own():
    mailbox, only = Mailbox(), batch(10)
    mailbox.put(only)
    first, second = mailbox.take(4), mailbox.take(100)
    assert not np.shares_memory(first.matrix, only.matrix)
    assert not np.shares_memory(second.matrix, only.matrix)
    assert second.matrix[:, 0].tolist() == [4, 5, 6, 7, 8, 9]


def test_nobody_can_write_to_what_models_share():
    for batches in (1, 2):
        mailbox = Mailbox()
        for i in range(batches):
            mailbox.put(batch(2, first=2 * i))
        with pytest.raises(ValueError, match="read-only"):
            mailbox.take(4).matrix[0, 0] = 7


def test_the_wait_is_that_of_the_oldest_row():
    mailbox = Mailbox()
    mailbox.put(batch(1, ticket=3))
    mailbox.put(batch(1, ticket=5))
    assert mailbox.take(2).received_ns == 1003


def test_the_limit_grows_to_the_maximum_while_calls_are_quick():
    limit = BatchLimit(2000)
    assert limit.rows == FIRST_LIMIT
    for _ in range(10):
        limit.observe(limit.rows, 1_000_000)
    assert limit.rows == 2000


def test_quick_calls_of_few_rows_say_nothing_about_large_ones():
    limit = BatchLimit(2000)
    limit.observe(1, 1000)
    assert limit.rows == FIRST_LIMIT


@pytest.mark.parametrize("ns_per_row", [1_000, 200_000, 5_000_000, 60_000_000, 400_000_000])
def test_the_limit_finds_calls_that_are_not_long(ns_per_row):
    limit, longest = BatchLimit(2000), 0
    for turn in range(100):
        took = limit.rows * ns_per_row
        if turn > 20:
            longest = max(longest, took)
        limit.observe(limit.rows, took)
    assert longest <= max(LONG_CALL_NS, ns_per_row)


@pytest.mark.parametrize("call_ns", [40_000_000, 100_000_000, 150_000_000, 240_000_000])
def test_a_model_that_costs_by_the_call_gets_all_there_is(call_ns):
    limit = BatchLimit(2000)
    for _ in range(60):
        limit.observe(limit.rows, call_ns + limit.rows * 100)
    assert limit.rows > 1000 or call_ns > 200_000_000
    assert limit.rows > FIRST_LIMIT


@pytest.mark.parametrize("ns_per_row", [3_000_000, 5_000_000, 7_000_000])
def test_where_rows_cost_larger_calls_are_tried_seldom_and_given_up(ns_per_row):
    limit, took = BatchLimit(2000), []
    for _ in range(500):
        took.append(limit.rows * ns_per_row)
        limit.observe(limit.rows, took[-1])
    assert max(took) <= LONG_CALL_NS
    usual = sorted(took)[len(took) // 2]
    assert sum(each > usual for each in took) < 10


def test_after_a_call_that_hung_for_a_moment_it_grows_again():
    limit = BatchLimit(2000)
    for turn in range(400):
        limit.observe(limit.rows, 2 * LONG_CALL_NS if turn == 30 else 150_000_000)
    assert limit.rows == 2000


def test_the_limit_never_exceeds_a_small_maximum():
    assert BatchLimit(5).rows == 5
