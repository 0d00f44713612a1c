"""The verdicts on the models: on each row that left each model once.

A verdict that an answer came costs the row's deadline of patience: nobody may count as missing
before. A model that nobody waits for has it as soon as it has answered, row after row: it is back
then, and every event until that is noticed would go without it.
"""

from dataclasses import dataclass

import numpy as np

from combiner.rows import Bools, Ints, Rows
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, WAITING


@dataclass(frozen=True, slots=True)
class Judgement:
    """How the models did on some events: int64[M] each."""

    answered: Ints
    refused: Ints
    missed: Ints


class Verdicts:
    """Who was judged on which rows of a join."""

    def __init__(self, rows: Rows, expected: Bools) -> None:
        self._rows = rows
        # How many rows from `judged` on each member was judged on before their deadline.
        self._ahead: Ints = np.zeros(len(expected), dtype=np.int64)
        self.heed(expected)

    def heed(self, expected: Bools) -> None:
        """Which members are waited for: bool[M]."""
        self._others = np.flatnonzero(~expected)

    def judge(self, now_ns: int) -> Judgement | None:
        """What became certain since the last call."""
        rows = self._rows
        due = self._due(now_ns)
        if not due and not len(self._others):
            return None
        certain = self._certain(due)
        count = int(certain.max())
        if not due and np.array_equal(certain, self._ahead):
            return None
        which = slice(rows.judged, rows.judged + count)
        states = rows.states[:, which]
        if self._ahead.any() or certain.min() < count:
            place = np.arange(count)
            anew = (place >= self._ahead[:, None]) & (place < certain[:, None])
            states = np.where(anew, states, NOT_ASKED)
        scoreable = rows.scoreable[which]
        states = states[:, scoreable]
        # Backlog that left for its quorum gave the others no time to be measured by.
        timed = ~(rows.hurried[which] & rows.backlog[which])[scoreable]
        rows.judged += due
        self._ahead = certain - due
        return Judgement(
            (states == ANSWERED).sum(axis=1),
            (states == REFUSED).sum(axis=1),
            ((states == WAITING) & timed).sum(axis=1),
        )

    def _due(self, now_ns: int) -> int:
        """How many rows from `judged` on have left, and their deadline has passed."""
        rows = self._rows
        if rows.judged == rows.head or rows.due_ns[rows.judged] > now_ns:
            return 0
        passed = rows.due_ns[rows.judged : rows.head] <= now_ns
        return len(passed) if passed.all() else int(np.argmin(passed))

    def _certain(self, due: int) -> Ints:
        """int64[M]: on how many rows from `judged` on each member can be judged."""
        rows, others = self._rows, self._others
        certain = np.maximum(self._ahead, due)
        left = rows.states[others, rows.judged + due : rows.head]
        if left.size:
            silent = left == WAITING
            heard = np.where(silent.any(axis=1), silent.argmax(axis=1), silent.shape[1])
            certain[others] = np.maximum(certain[others], due + heard)
        return certain
