"""What late answers would have changed, and what it costs not to wait for them.

A score is final. An answer that comes after it changes no score; but the combiner can work out
what the score would be with it, tell whoever wants to know (a correction), and count how often a
model's late answers would have turned the label (its regret).

1. What left is remembered for the last `rows` rows, under the numbers that the join gives them.
   An answer to an older event is too late even for a correction.
2. The published score is revision 0. Each late answer makes the next revision, of everything that
   is there by then; "before" is the revision before it. So what one answer changed is told apart
   from what another did.
3. A model's cell in the join is filled once, so there is one revision for an answer, however often
   it is repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from combiner.facts import Facts, FactsRing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
# An event's offset, id and key.
Name = tuple[int, str, bytes | None]


@dataclass(frozen=True, slots=True)
class Revisions:
    """What L late answers of one model came to.

    Attributes:
        rows: int64[L], which of the answers that were given to `revise` these are.
        revision: int64[L], from 1.
        score_before: float64[L, K].
        score_now: float64[L, K].
        label_before: int64[L].
        label_now: int64[L].
        names: L names as they were remembered, or None.
    """

    rows: Ints
    revision: Ints
    score_before: Floats
    score_now: Floats
    label_before: Ints
    label_now: Ints
    names: list[Name | None]

    @property
    def changed(self) -> Bools:
        """bool[L], whether the label is another one now."""
        changed: Bools = self.label_before != self.label_now
        return changed


class Finals:
    """The scores that left one partition last, for late answers to be held against.

    Args:
        rows: how many are remembered.
        columns: K, numbers of a score.
    """

    def __init__(self, rows: int, columns: int = 1) -> None:
        assert rows > 0
        self._numbers: Ints = np.full(rows, -1, dtype=np.int64)
        self._scores: Floats = np.zeros((rows, columns))
        self._labels: Ints = np.zeros(rows, dtype=np.int64)
        self._revisions: Ints = np.zeros(rows, dtype=np.int64)
        self._names: NDArray[np.object_] = np.empty(rows, dtype=object)
        self._facts: FactsRing | None = None

    def remember(
        self,
        numbers: Ints,
        scores: Floats,
        labels: Ints,
        names: Sequence[Name] = (),
        facts: Facts | None = None,
    ) -> None:
        """Rows that leave; older ones make room.

        Args:
            numbers: int64[N], ascending.
            scores: float64[N, K].
            labels: int64[N].
            names: of N events; may be left out altogether.
            facts: with which the N events were decided; all calls have them, or none.
        """
        slots = self._slots(numbers)
        # Where rows overtake each other, an old one does not push out a newer one. Of several
        # for one slot the last is written last.
        newer = np.flatnonzero(self._numbers[slots] < numbers)
        slots = slots[newer]
        self._numbers[slots] = numbers[newer]
        self._scores[slots] = scores[newer]
        self._labels[slots] = labels[newer]
        self._revisions[slots] = 0
        if names:
            self._names[slots] = np.fromiter(names, dtype=object, count=len(names))[newer]
        if facts is not None:
            if self._facts is None:
                self._facts = FactsRing(len(self._numbers), facts)
            self._facts.put(slots, facts.take(newer))

    def facts(self, numbers: Ints) -> Facts | None:
        """What is known of rows that are remembered, as it was when they were decided."""
        return None if self._facts is None else self._facts.take(self._slots(numbers))

    def known(self, numbers: Ints) -> Bools:
        """bool[L]: which of some rows are remembered."""
        known: Bools = self._numbers[self._slots(numbers)] == numbers
        return known

    def revise(self, numbers: Ints, scores: Floats, labels: Ints) -> Revisions:
        """Hold the scores as they are now against those before; these count from then on.

        Args:
            numbers: int64[L], rows that left, each once; those not remembered are left out.
            scores: float64[L, K], with everything that is there by now.
            labels: int64[L].
        """
        rows = np.flatnonzero(self.known(numbers))
        slots = self._slots(numbers[rows])
        self._revisions[slots] += 1
        found = Revisions(
            rows,
            self._revisions[slots],
            self._scores[slots],
            scores[rows],
            self._labels[slots],
            labels[rows],
            self._names[slots].tolist(),
        )
        self._scores[slots] = scores[rows]
        self._labels[slots] = labels[rows]
        return found

    def _slots(self, numbers: Ints) -> Ints:
        slots: Ints = numbers % len(self._numbers)
        return slots
