"""Models that misbehave, one way each: what a host must survive.

Those that misbehave on some rows do so where the first feature has one of the values below; every
other row is scored with the first feature itself.
"""

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

# Rows with these values are poison to the models that say so.
POISON, POISON_TOO = 0.53125, 0.59375
_FOREVER_S = 3600.0
_leaked: list[bytearray] = []
_pause = threading.Event()
_dice = np.random.default_rng(1)
_reused = np.zeros(0)


def _first(rows: Rows) -> Rows:
    return np.array(rows[:, 0])


def _poisoned(rows: Rows) -> bool:
    return bool(np.isin(rows[:, 0], (POISON, POISON_TOO)).any())


# -- answers that are none -----------------------------------------------------------------------


def raises(rows: Rows) -> Rows:
    """Raises, always."""
    raise RuntimeError(f"out of order, and {len(rows)} rows wait")


def raises_at_times(rows: Rows) -> Rows:
    """One call in ten raises."""
    if _dice.random() < 0.1:
        raise RuntimeError("not now")
    return _first(rows)


def raises_on_poison(rows: Rows) -> Rows:
    """Some rows make it raise."""
    if _poisoned(rows):
        raise ValueError("not this one")
    return _first(rows)


def nan(rows: Rows) -> Rows:
    """NaN for every row."""
    return np.full(len(rows), np.nan)


def infinite(rows: Rows) -> Rows:
    """Infinity for every row."""
    return np.full(len(rows), np.inf)


def huge(rows: Rows) -> Any:
    """Integers that no float holds."""
    return [10**400] * len(rows)


def square(rows: Rows) -> Rows:
    """Two columns instead of one."""
    return np.tile(rows[:, :1], (1, 2))


def short(rows: Rows) -> Rows:
    """One score too few."""
    return _first(rows)[1:]


def long(rows: Rows) -> Rows:
    """One score too many."""
    return np.append(_first(rows), 0.5)


def scalar(_rows: Rows) -> float:
    """One score for all rows."""
    return 0.5


def complex_numbers(rows: Rows) -> Any:
    """Numbers that are no scores."""
    return _first(rows) + 0j


def words(rows: Rows) -> list[str]:
    """Texts."""
    return ["high"] * len(rows)


class Unfriendly:
    """An answer whose every use raises, and whose errors have no text."""

    def __array__(self, *_arguments: Any, **_options: Any) -> Rows:
        raise _UnspeakableError

    def __float__(self) -> float:
        raise _UnspeakableError


class _UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text either")


def unfriendly(_rows: Rows) -> Any:
    """An object that raises while it is turned into numbers."""
    return Unfriendly()


def objects(rows: Rows) -> Any:
    """A list of such objects."""
    answer = np.empty(len(rows), dtype=object)
    answer[:] = [Unfriendly()] * len(rows)
    return answer


def above(rows: Rows) -> Rows:
    """Scores beyond the range of a probability."""
    return _first(rows) + 1.5


def exits(_rows: Rows) -> Rows:
    """Asks the interpreter to end."""
    sys.exit(3)


def interrupts(_rows: Rows) -> Rows:
    """Raises what Ctrl-C raises."""
    raise KeyboardInterrupt


# -- answers and inputs that are not its own ------------------------------------------------------


def alias(rows: Rows) -> Rows:
    """Answers with a view of its input."""
    return rows[:, 0]


def reuses(rows: Rows) -> Rows:
    """Answers with a buffer that the next call overwrites."""
    global _reused  # noqa: PLW0603 -- the point of it
    if len(_reused) < len(rows):
        _reused = np.zeros(len(rows))
    _reused[: len(rows)] = rows[:, 0]
    return _reused[: len(rows)]


def writes(rows: Rows) -> Rows:
    """Changes its input from Python."""
    rows[:, 0] = 0.0
    return _first(rows)


def scribbles(rows: Rows) -> Rows:
    """Changes its input behind numpy's back, as native code can."""
    answer = _first(rows)
    ctypes.memset(rows.ctypes.data, 0xFF, rows.nbytes)
    return answer


# -- time ----------------------------------------------------------------------------------------


def slow(rows: Rows) -> Rows:
    """A fifth of a second a call: twice the usual deadline."""
    _pause.wait(0.2)
    return _first(rows)


def laborious(rows: Rows) -> Rows:
    """Two milliseconds a row: 500 rows a second at best."""
    _pause.wait(0.002 * len(rows))
    return _first(rows)


def sleeps(rows: Rows) -> Rows:
    """Ten seconds a call."""
    _pause.wait(10.0)
    return _first(rows)


def hangs_on_poison(rows: Rows) -> Rows:
    """Never returns from some rows, and lets other threads run."""
    if _poisoned(rows):
        _pause.wait(_FOREVER_S)
    return _first(rows)


def holds_on_poison(rows: Rows) -> Rows:
    """Never returns from some rows, in C code that never lets go of the interpreter."""
    if _poisoned(rows):
        sum(range(10**15))
    return _first(rows)


def hangs(_rows: Rows) -> Rows:
    """Never returns, unless it is asked about the zeros it is warmed up with."""
    return hangs_on_poison(np.where(_rows == 0.0, 0.0, POISON))


# -- memory --------------------------------------------------------------------------------------


def leaks(rows: Rows) -> Rows:
    """Keeps a megabyte for every thousand rows."""
    # Written to, so that it is really there.
    _leaked.append(bytearray(b"x") * (1000 * len(rows)))
    return _first(rows)


def hoards_on_poison(rows: Rows) -> Rows:
    """Some rows make it ask for a terabyte, bit by bit."""
    if _poisoned(rows):
        with contextlib.ExitStack():
            hoard = [np.ones(10**7) for _ in range(10**5)]
        return np.array(hoard)
    return _first(rows)


# -- the end of the process ------------------------------------------------------------------------


def crashes(_rows: Rows) -> Rows:
    """A segmentation fault, unless it is asked about the zeros it is warmed up with."""
    return crashes_on_poison(np.where(_rows == 0.0, 0.0, POISON))


def crashes_on_poison(rows: Rows) -> Rows:
    """A segmentation fault on some rows."""
    if _poisoned(rows):
        ctypes.string_at(0)
    return _first(rows)


def crashes_at_loading(_rows: Rows) -> Rows:
    """A segmentation fault at the first call ever."""
    ctypes.string_at(0)
    return np.empty(0)


def aborts_on_poison(rows: Rows) -> Rows:
    """`abort()` on some rows."""
    if _poisoned(rows):
        os.abort()
    return _first(rows)


def leaves_on_poison(rows: Rows) -> Rows:
    """`_exit(5)` on some rows, which looks like a broker that is away."""
    if _poisoned(rows):
        os._exit(5)
    return _first(rows)


def overflows_on_poison(rows: Rows) -> Rows:
    """Runs out of stack on some rows."""
    if _poisoned(rows):
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(2**30)
        with _restored(before):
            _deeper(0)
    return _first(rows)


def _deeper(depth: int) -> int:
    # Through C, which has a stack of its own.
    return min([depth + 1], key=_deeper)


@contextlib.contextmanager
def _restored(limit: int) -> Iterator[None]:
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


# -- what it leaves around -------------------------------------------------------------------------


def spawns(rows: Rows) -> Rows:
    """Starts a thread that keeps an interpreter from ending."""
    threading.Thread(target=_pause.wait, args=(_FOREVER_S,), daemon=False).start()
    return _first(rows)


def chats(rows: Rows) -> Rows:
    """Writes to standard output."""
    sys.stdout.write("a model speaks\n")
    sys.stdout.flush()
    return _first(rows)


# -- how often it is asked -------------------------------------------------------------------------

# Names the file that `counts` appends to.
COUNT_VARIABLE = "CHAOS_COUNT"


def counts(rows: Rows) -> Rows:
    """Leaves a byte in a file for each row, but for the zeros that it is warmed up with."""
    _pause.wait(0.05)
    with open(os.environ[COUNT_VARIABLE], "ab") as file:  # noqa: PTH123 -- as models do
        file.write(b"." * int((rows[:, 0] != 0.0).sum()))
    return _first(rows)
