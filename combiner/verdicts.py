"""The verdicts on the models: each on each row that left, once.

They are given at the row's deadline, so that all had the same time. A model that nobody waits for
has its verdict as soon as it has answered, row after row: until it is known to be back every event
goes without it.
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
        self._others: list[int] = np.flatnonzero(~expected).tolist()

    def judge(self, now_ns: int) -> Judgement | None:
        """What became certain since the last call."""
        due = self._due(now_ns)
        if not due and not self._others:
            return None
        counts = self._at_deadlines(due)
        early = [self._judge_early(member, counts) for member in self._others]
        return counts if due or any(early) else None

    def _due(self, now_ns: int) -> int:
        """How many rows from `judged` on have left, and their deadline has passed."""
        rows = self._rows
        if rows.judged == rows.head or rows.due_ns[rows.judged] > now_ns:
            return 0
        passed = rows.due_ns[rows.judged : rows.head] <= now_ns
        return len(passed) if passed.all() else int(np.argmin(passed))

    def _at_deadlines(self, due: int) -> Judgement:
        """All members on so many rows, without those who were judged on them before."""
        rows = self._rows
        which = slice(rows.judged, rows.judged + due)
        states = rows.states[:, which]
        if self._ahead.any():
            states = np.where(np.arange(due) < self._ahead[:, None], NOT_ASKED, states)
            self._ahead = np.maximum(self._ahead - due, 0)
        rows.judged += due
        scoreable = rows.scoreable[which]
        states = states[:, scoreable]
        # Backlog that left for its quorum gave the others no time to be measured by.
        timed = ~(rows.hurried[which] & rows.backlog[which])[scoreable]
        return Judgement(
            (states == ANSWERED).sum(axis=1),
            (states == REFUSED).sum(axis=1),
            ((states == WAITING) & timed).sum(axis=1),
        )

    def _judge_early(self, member: int, counts: Judgement) -> bool:
        """One that nobody waits for, on the rows that it has answered; whether there are any."""
        rows = self._rows
        begin = rows.judged + int(self._ahead[member])
        states = rows.states[member, begin : rows.head]
        if not len(states) or states[0] == WAITING:
            return False
        silent = states == WAITING
        heard = int(silent.argmax()) if silent.any() else len(silent)
        states = states[:heard][rows.scoreable[begin : begin + heard]]
        counts.answered[member] += np.count_nonzero(states == ANSWERED)
        counts.refused[member] += np.count_nonzero(states == REFUSED)
        self._ahead[member] += heard
        return True
