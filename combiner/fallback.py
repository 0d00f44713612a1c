"""Which rung of the ladder an event stands on, for a whole batch at once.

    none      every member answered that was asked
    partial   at least `minimum_members` members answered
    reserve   no such luck, but a reserve model answered
    cached    the last score of the same entity
    prior     what is known of no one in particular

`none` and `prior` are always there; the rungs between them are configuration, and are tried in
the order above whatever the order in which they were written.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.records import Fallback

RUNGS: tuple[Fallback, ...] = ("none", "partial", "reserve", "cached", "prior")
NONE, PARTIAL, RESERVE, CACHED, PRIOR = range(len(RUNGS))


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs in use.

    `reserves` is bool[M]: which columns are reserve models; the others are members.
    """

    reserves: NDArray[np.bool_]
    rungs: frozenset[Fallback]
    minimum_members: int

    def __post_init__(self) -> None:
        assert self.minimum_members > 0
        assert not self.reserves.all(), "an ensemble has at least one member"

    def rungs_of(
        self, present: NDArray[np.bool_], unasked: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int8]:
        """int8[N] of rungs; never looks below `cached`.

        Args:
            present: bool[N, M], who answered.
            unasked: bool[N, M], of whom no answer was wanted; None is nobody, and it is never
                all members.
        """
        members = present[:, ~self.reserves]
        answered = np.count_nonzero(members, axis=1)
        complete = answered
        if unasked is not None:
            complete = np.count_nonzero(members | unasked[:, ~self.reserves], axis=1)
        rung = np.full(len(present), CACHED if "cached" in self.rungs else PRIOR, dtype=np.int8)
        if "reserve" in self.rungs:
            rung[present[:, self.reserves].any(axis=1)] = RESERVE
        if "partial" in self.rungs:
            rung[answered >= self.minimum_members] = PARTIAL
        rung[complete == members.shape[1]] = NONE
        return rung

    def used(self, present: NDArray[np.bool_], rung: NDArray[np.int8]) -> NDArray[np.bool_]:
        """bool[N, M]: whose answers make the score; members above `reserve`, reserves on it."""
        on_reserve = (rung == RESERVE)[:, None]
        on_members = (rung <= PARTIAL)[:, None]
        chosen: NDArray[np.bool_] = (on_members & ~self.reserves) | (on_reserve & self.reserves)
        return present & chosen
