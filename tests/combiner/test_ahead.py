"""The text in a commit's metadata: it comes back as it went in, and is never longer than said."""

import string
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from combiner.ahead import (
    MOST_BYTES,
    NONE,
    Runs,
    UnreadableError,
    decode,
    encode,
    encoded_bytes,
    runs_of,
)

lengths = st.one_of(
    st.integers(1, 3), st.sampled_from([127, 128, 129, 16_384]), st.integers(1, 2**40)
)


def runs_from(start: int, sizes: list[int]) -> Runs:
    edges = start + np.cumsum(np.array(sizes[: len(sizes) // 2 * 2], dtype=np.int64))
    return Runs(edges[::2], edges[1::2])


@st.composite
def commits(draw: st.DrawFn) -> tuple[int, Runs]:
    """An offset, and runs above it; the first may begin at the offset itself."""
    offset = draw(st.integers(0, 2**50))
    first = draw(st.integers(0, 3))
    sizes = draw(st.lists(lengths, max_size=40))
    return offset, runs_from(offset, [first, *sizes])


def same(one: Runs, other: Runs) -> bool:
    return np.array_equal(one.starts, other.starts) and np.array_equal(one.stops, other.stops)


@settings(derandomize=True, max_examples=300)
@given(commits())
def test_what_goes_in_comes_out(commit: tuple[int, Runs]) -> None:
    offset, runs = commit
    text = encode(offset, runs)
    assert same(decode(offset, text), runs)
    assert len(text.encode()) == encoded_bytes(offset, runs)
    assert text.isascii()
    assert text == encode(offset, decode(offset, text))


@settings(derandomize=True, max_examples=300)
@given(commits(), st.integers(0, 2**42))
def test_it_never_grows_when_the_offset_moves_up(commit: tuple[int, Runs], further: int) -> None:
    offset, runs = commit
    later = offset + further
    assert encoded_bytes(later, runs.above(later)) <= encoded_bytes(offset, runs)


@settings(derandomize=True, max_examples=300)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=60), st.integers(0, 260))
def test_runs_are_the_marked_offsets(rows: list[tuple[bool, int]], above: int) -> None:
    marked = np.array([mark for mark, _ in rows], dtype=np.bool_)
    offsets = np.cumsum(np.array([gap for _, gap in rows], dtype=np.int64))
    runs = runs_of(marked, offsets)
    assert runs.contain(offsets).tolist() == marked.tolist()
    assert (runs.starts[1:] > runs.stops[:-1]).all()
    upper = runs.above(above)
    assert upper.contain(offsets).tolist() == (marked & (offsets >= above)).tolist()
    # In two parts it is the same, wherever it is cut.
    cut = len(rows) // 2
    parts = runs_of(marked[:cut], offsets[:cut]), runs_of(marked[cut:], offsets[cut:])
    assert parts[0].then(parts[1]).contain(offsets).tolist() == marked.tolist()


def test_nothing_ahead_is_an_empty_text() -> None:
    assert encode(7, NONE) == ""
    assert same(decode(7, ""), NONE)
    assert encoded_bytes(7, NONE) == 0


def test_a_text_one_can_read() -> None:
    """Offset 10 is open, 11 and 12 are settled, 13 is open, 14 is settled."""
    runs = Runs(np.array([11, 14]), np.array([13, 15]))
    assert encode(10, runs) == "ahead-1:0RjO5"  # 1, 2, 1, 1


def test_runs_that_touch_become_one() -> None:
    one = Runs(np.array([1]), np.array([5])).then(Runs(np.array([5, 9]), np.array([8, 10])))
    assert same(one, Runs(np.array([1, 9]), np.array([8, 10])))


def test_random_holes_in_thousands_of_events_fit() -> None:
    """One event in ten still waits, of 14,000."""
    marked = np.random.default_rng(1).random(14_000) > 0.1
    marked[0] = False
    assert 3000 < encoded_bytes(0, runs_of(marked, np.arange(14_000))) <= MOST_BYTES


@pytest.mark.parametrize(
    "text",
    ["x", "ahead-2:0RjO5", "ahead-1:", "ahead-1:0", "ahead-1: ", "ahead-1:é", "0RjO5"],
)
def test_a_strange_text_is_an_error(text: str) -> None:
    with pytest.raises(UnreadableError):
        decode(10, text)


@settings(derandomize=True, max_examples=500)
@given(commits(), st.randoms(use_true_random=False))
@example((0, Runs(np.array([1]), np.array([2**62]))), Random(0))
def test_a_damaged_text_is_an_error_or_another_one(
    commit: tuple[int, Runs], random: Random
) -> None:
    """It never crashes, and never gives what could not have been encoded."""
    offset, runs = commit
    text = encode(offset, runs) or "ahead-1:"
    place = random.randrange(len(text))
    broken = text[:place] + random.choice(string.printable) + text[place + random.randrange(2) :]
    try:
        found = decode(offset, broken)
    except UnreadableError:
        return
    assert encode(offset, found) == broken
