"""One model call, judged row by row.

A model may raise, answer in the wrong shape, or give values that are no scores. What concerns
single rows is refused for these rows; what concerns a whole call is bisected until the rows that
cause it are found. Everybody else keeps exactly the value the model gave in the call that
succeeded.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.frames import SHARES_TOLERANCE
from workers.protocol import UnavailableError

# Bisecting finds every guilty row of a batch of N within 2 N - 1 calls, and k of them within
# about 2 k log2(N / k). Within this bound, batches of 512 rows are always resolved, and of 2,000
# rows those with up to a hundred guilty ones; of a model that fails beyond it, the halves that
# still fail are refused as a whole.
MAX_CALLS = 1024
# A model that answered none of its last so many rows is out of order. Of a call that fails only the
# halves are tried then, so that it does not take the processor from those that are not.
FUTILE_ROWS = 256
FUTILE_CALLS = 3
MAX_REASON_CHARS = 200
# What a reason begins with that says nothing about the rows.
UNAVAILABLE = "unavailable"
# For metrics, which must not have a label for each message.
REASON_KINDS = (
    *("raised", "returned", "outside", "adds", "paused", "overloaded", "quarantined", "crashed"),
    UNAVAILABLE,
)

Predict = Callable[[NDArray[np.float64]], Any]
# One call: float64[M] (or [M, K]) for float64[M, F], or what was wrong with the call as a whole.
Ask = Callable[[NDArray[np.float64]], NDArray[np.float64] | str]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The answers to one micro-batch.

    Attributes:
        values: float64[N], or float64[N, K] of several columns; NaN where refused.
        refusals: why, by row.
    """

    values: NDArray[np.float64]
    refusals: dict[int, str]

    def refusals_of(self, rows: NDArray[np.int64]) -> dict[int, str]:
        """Why some rows are refused, by their places in int64[M]."""
        if not self.refusals:
            return {}
        reasons = enumerate(map(self.refusals.get, rows.tolist()))
        return {place: reason for place, reason in reasons if reason is not None}


def score(
    ask: Ask,
    matrix: NDArray[np.float64],
    minimum: float | None = None,
    maximum: float | None = None,
    columns: int = 1,
    most_calls: int = MAX_CALLS,
) -> Scores:
    """Ask a model, and judge what it says.

    Args:
        ask: `called` with a model, or around it.
        matrix: float64[N, F].
        minimum: the least score that counts; None is no limit.
        maximum: the greatest.
        columns: how many numbers an answer has; several are probabilities that add up to 1.
        most_calls: ask no more often; see `Effort`.
    """
    values, refusals = _resolved(ask, matrix, columns, most_calls)
    low = -np.inf if minimum is None else minimum
    high = np.inf if maximum is None else maximum
    for row, value in _first_in_rows(values, ~np.isfinite(values)):
        refusals.setdefault(row, f"returned {_spelled(value)}")
    if minimum is not None or maximum is not None:
        with np.errstate(invalid="ignore"):
            outside = (values < low) | (values > high)
        for row, value in _first_in_rows(values, outside):
            refusals.setdefault(row, f"{value:g} outside [{low:g}, {high:g}]")
    if columns > 1:
        sums = values.sum(axis=1)
        with np.errstate(invalid="ignore"):
            uneven = np.abs(sums - 1.0) > SHARES_TOLERANCE
        for row in np.flatnonzero(uneven).tolist():
            refusals.setdefault(row, f"adds up to {sums[row]:g} instead of 1")
    if refusals:
        values[list(refusals)] = np.nan
    return Scores(values, refusals)


def _first_in_rows(
    values: NDArray[np.float64], marked: NDArray[np.bool_]
) -> Iterator[tuple[int, float]]:
    """Each row with something marked, and the first value that is."""
    if values.ndim == 1:
        for row in np.flatnonzero(marked).tolist():
            yield row, float(values[row])
    else:
        for row in np.flatnonzero(marked.any(axis=1)).tolist():
            yield row, float(values[row][marked[row]][0])


def refused(rows: int, reason: str, columns: int = 1) -> Scores:
    """The answers of a model that was not asked."""
    return Scores(_nothing(rows, columns), dict.fromkeys(range(rows), reason))


def _nothing(rows: int, columns: int) -> NDArray[np.float64]:
    return np.full(rows if columns == 1 else (rows, columns), np.nan)


def kind_of(reason: str) -> str:
    """Which of `REASON_KINDS` a reason belongs to.

    >>> kind_of("raised ValueError: no"), kind_of("1.7 outside [0, 1]")
    ('raised', 'outside')
    """
    return next(
        (kind for kind in REASON_KINDS if kind in reason.replace(":", " ").split(" ", 2)[:2]),
        "other",
    )


class Effort:
    """How often a model is asked about one batch, by what it said to those before.

    >>> effort = Effort()
    >>> effort.heed(refused(FUTILE_ROWS, "raised RuntimeError"))
    >>> effort.calls
    3
    >>> effort.heed(Scores(np.array([np.nan, 0.5]), {0: "raised RuntimeError"}))
    >>> effort.calls
    1024
    """

    def __init__(self) -> None:
        self._futile_rows = 0

    @property
    def calls(self) -> int:
        """How often, at most."""
        return FUTILE_CALLS if self._futile_rows >= FUTILE_ROWS else MAX_CALLS

    def heed(self, scores: Scores) -> None:
        """The answers to the next batch."""
        rows = len(scores.values)
        self._futile_rows = self._futile_rows + rows if len(scores.refusals) == rows else 0


def _resolved(
    ask: Ask, matrix: NDArray[np.float64], columns: int, most_calls: int
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """What the model said, as in `Scores`, and the rows for which it said nothing usable."""
    values = _nothing(len(matrix), columns)
    refusals: dict[int, str] = {}
    # Breadth first: where the bound ends the search, the halves left over are the smallest.
    open_ranges = deque([(0, len(matrix))] if len(matrix) else [])
    calls = 0
    while open_ranges:
        begin, end = open_ranges.popleft()
        answer = ask(matrix[begin:end])
        calls += 1
        if not isinstance(answer, str):
            values[begin:end] = answer
        elif answer.startswith(UNAVAILABLE):
            for first, behind in ((begin, end), *open_ranges):
                refusals.update(dict.fromkeys(range(first, behind), answer))
            break
        elif end - begin == 1 or calls + len(open_ranges) + 2 > most_calls:
            refusals.update(dict.fromkeys(range(begin, end), answer))
        else:
            middle = (begin + end) // 2
            open_ranges += (begin, middle), (middle, end)
    return values, refusals


def called(
    predict: Predict, rows: NDArray[np.float64], columns: int = 1
) -> NDArray[np.float64] | str:
    """One number per row, or several `columns`, or what was wrong with the call as a whole.

    Whatever foreign code raises is its refusal, an exit and an interrupt too: on a model's thread
    they come from the model.
    """
    try:
        return _numbers(np.asarray(predict(rows)), len(rows), columns)
    except UnavailableError as error:
        return f"{UNAVAILABLE}: {error}"[:MAX_REASON_CHARS]
    except BaseException as error:  # noqa: BLE001 -- see above
        return f"raised {type(error).__name__}: {_text(error)}"[:MAX_REASON_CHARS].removesuffix(
            ": "
        )


def _numbers(answer: NDArray[Any], count: int, columns: int) -> NDArray[np.float64] | str:
    if answer.dtype.kind not in "fiubO":
        return f"returned {answer.dtype} instead of numbers"[:MAX_REASON_CHARS]
    if columns == 1 and answer.shape == (count, 1):
        answer = answer[:, 0]
    if answer.ndim != (1 if columns == 1 else 2) or (columns > 1 and answer.shape[1] != columns):
        of = "" if columns == 1 else f" of {columns} classes"
        return f"returned shape {answer.shape} for {count} rows{of}"
    if len(answer) != count:
        return f"returned {len(answer)} scores for {count} rows"
    try:
        with np.errstate(all="ignore"):
            return answer.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return "returned what are no numbers"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 -- its own text is the model's code as well
        return "without a text"


def _spelled(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
