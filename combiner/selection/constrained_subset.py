"""The best few members that satisfy constraints: a number, a latency, a diversity.

The squared error of a mean of members is a quadratic form in who belongs to it (Krogh & Vedelsby,
"Neural network ensembles, cross validation, and active learning", 1995): with
`C[i, j] = mean((p_i - y) (p_j - y))` over validation rows, the mean of the members S has the
error `sum of C over S x S, divided by |S| squared`. So M x M numbers tell the error of every
subset exactly, and the best one is found by looking at all of them.

Members run in parallel, so the latency of a subset is that of its slowest member. The choice is
made once for each state of health, not for each event.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from combiner.selection.protocol import Bools, Context, Floats, shares

# Up to here all subsets are looked at: 4,095 of them. Beyond it members are added one by one.
MAX_MEMBERS_FOR_ALL_SUBSETS = 12


@dataclass(frozen=True, slots=True)
class Members:
    """What is known of M members.

    Attributes:
        products: float64[M, M], mean products of their errors on validation rows.
        disagreement: float64[M, M], share of validation rows on which two of them have different
            labels (Skalak, 1996).
        latency_ms: float64[M]; 0 where it is not known.
    """

    products: Floats
    disagreement: Floats
    latency_ms: Floats

    def __len__(self) -> int:
        return len(self.products)

    def loss(self, chosen: list[int]) -> float:
        """Mean squared error of the chosen members' mean."""
        return float(self.products[np.ix_(chosen, chosen)].sum()) / len(chosen) ** 2

    def diversity(self, chosen: list[int]) -> float:
        """Mean disagreement over pairs of the chosen; one alone has none, 0."""
        pairs = len(chosen) * (len(chosen) - 1)
        return float(self.disagreement[np.ix_(chosen, chosen)].sum()) / pairs if pairs else 0.0


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a subset must satisfy.

    Attributes:
        max_models: how many members at most.
        latency_ms: how long the slowest may take.
        min_diversity: mean disagreement of pairs at least.
    """

    max_models: int
    latency_ms: float = np.inf
    min_diversity: float = 0.0


def best_subset(members: Members, constraints: Constraints, healthy: Bools) -> Bools:
    """bool[M]: the subset of least loss under the constraints, else the best single member.

    Members that are unhealthy or too slow are passed over. If that leaves nobody, or no subset is
    diverse enough, it is the best single one: of the healthy and quick ones if there are any, else
    of the healthy, else of all.
    """
    quick = members.latency_ms <= constraints.latency_ms
    candidates = np.flatnonzero(healthy & quick).tolist()
    if len(members) <= MAX_MEMBERS_FOR_ALL_SUBSETS:
        tried = _all_subsets(candidates, constraints.max_models)
    else:
        tried = _grown_subsets(members, candidates, constraints.max_models)
    fitting = [s for s in tried if members.diversity(s) >= constraints.min_diversity]
    if not fitting:
        pools = (candidates, np.flatnonzero(healthy).tolist(), range(len(members)))
        fitting = [[one] for one in next(pool for pool in pools if pool)]
    chosen = np.zeros(len(members), dtype=np.bool_)
    chosen[min(fitting, key=members.loss)] = True
    return chosen


def _all_subsets(candidates: list[int], most: int) -> Iterator[list[int]]:
    for size in range(1, most + 1):
        yield from map(list, combinations(candidates, size))


def _grown_subsets(members: Members, candidates: list[int], most: int) -> Iterator[list[int]]:
    """Each subset on the way from one member to many, adding the most helpful each time."""
    chosen: list[int] = []
    rest = list(candidates)
    while rest and len(chosen) < most:
        best = min(rest, key=lambda one: members.loss([*chosen, one]))
        rest.remove(best)
        chosen = [*chosen, best]
        yield chosen


class ConstrainedSubset:
    """The same subset for all events, solved once for each state of health.

    Args:
        members: see there.
        constraints: see there.

    Where none of the chosen is present, the best single one of those present counts.
    """

    name = "constrained_subset"
    headers: tuple[str, ...] = ()

    def __init__(self, members: Members, constraints: Constraints) -> None:
        self._members = members
        self._constraints = constraints
        self._single_losses = np.diag(members.products)
        self.chosen = best_subset(members, constraints, np.ones(len(members), dtype=np.bool_))

    def update(self, healthy: Bools) -> None:
        """Solve again, because the health of a member has changed."""
        self.chosen = best_subset(self._members, self._constraints, healthy)

    def weights(self, features: Floats, context: Context, present: Bools) -> Floats:
        """float64[N, M]; the chosen count alike."""
        del features, context
        chosen = (present & self.chosen).astype(np.float64)
        lost = ~chosen.any(axis=1)
        if lost.any():
            losses = np.where(present[lost], self._single_losses, np.inf)
            chosen[np.flatnonzero(lost), losses.argmin(axis=1)] = 1.0
        return shares(chosen, present)
