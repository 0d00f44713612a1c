"""Rows that leave the join: what is known of some events when they are decided."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# The states of a cell: one model's answer to one event. Only a cascade's heavy models are ever
# NOT_ASKED: nobody waits for them, and nothing is held against them.
WAITING, ANSWERED, REFUSED, NOT_ASKED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Settled:
    """Rows that leave, in input order.

    Attributes:
        numbers: int64[N], each row's number among all that were ever added.
        offsets: int64[N].
        scores: float64[N, M, K]; meaningless where not ANSWERED.
        states: uint8[N, M] of WAITING, ANSWERED, REFUSED, NOT_ASKED.
        seen_ns: int64[N], when each event was seen.
        scoreable: bool[N]; False for bad events.
        reasons: why, for refused cells, by (row, member).
        hurried: bool[N], whether a row left for its quorum, before all were there or late.
        stamps: float64[N, M, 4], when each answer was where, or float64[N, M, 0]; meaningless
            where not ANSWERED.
    """

    numbers: NDArray[np.int64]
    offsets: NDArray[np.int64]
    scores: NDArray[np.float64]
    states: NDArray[np.uint8]
    seen_ns: NDArray[np.int64]
    scoreable: NDArray[np.bool_]
    reasons: dict[tuple[int, int], str]
    hurried: NDArray[np.bool_]
    stamps: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0, 0)))

    def __len__(self) -> int:
        return len(self.offsets)


def joined_rows(parts: Sequence[Settled]) -> Settled:
    """Rows of several joins, one behind the other; their numbers mean nothing then."""
    if len(parts) == 1:
        return parts[0]
    reasons: dict[tuple[int, int], str] = {}
    start = 0
    for part in parts:
        reasons |= {(start + row, member): why for (row, member), why in part.reasons.items()}
        start += len(part)
    return Settled(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.states for part in parts]),
        np.concatenate([part.seen_ns for part in parts]),
        np.concatenate([part.scoreable for part in parts]),
        reasons,
        np.concatenate([part.hurried for part in parts]),
        np.concatenate([part.stamps for part in parts]),
    )
