"""Who is waited for: the state of one model, judged by its answers.

Think of a colleague whose opinion you collect before each decision. As long as most of his
answers come in time you wait for him. When half of them fail to come you stop waiting, but you
go on listening: once he answers in time again you note that he is back (PROBING), and after a
row of good answers you wait for him as before.

The evidence is one verdict for each event, given at the event's deadline, or as soon as it came if
nobody waited for it: answered, refused or missed (`combiner.verdicts`). A refusal costs no time,
but a model that refuses everything is as useless as one that is silent, so both count against it.

Two rules fail a model. The share rule looks at a sliding window and needs a minimum of evidence.
The run rule counts bad verdicts without a good one between them, and works at any rate: with one
event a minute no window would ever hold enough.

Why nothing cleverer, such as phi accrual: the cost of a wrong HEALTHY is one deadline for a few
events, the cost of a wrong FAILED is a few events without a member. Both are small and are said
in the score; a rule that an operator can do in his head is worth more.

| from     | to       | when                                                              |
| -------- | -------- | ----------------------------------------------------------------- |
| HEALTHY  | FAILED   | bad share ≥ `failed_share`, or a run of `minimum_events` bad ones |
| HEALTHY  | DEGRADED | bad share ≥ `degraded_share`                                      |
| DEGRADED | FAILED   | as from HEALTHY                                                   |
| DEGRADED | HEALTHY  | bad share < half of `degraded_share`                              |
| FAILED   | PROBING  | a good verdict                                                    |
| PROBING  | HEALTHY  | another one, bad share < `degraded_share`, and since it failed    |
|          |          | `recovered_events` good ones, or only good ones for a window      |
| PROBING  | FAILED   | as from HEALTHY                                                   |

HEALTHY and DEGRADED models are waited for, FAILED ones are not. PROBING ones are where no member
is any better: the score would rest on none at all, and waiting for them costs a deadline at most.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

State = Literal["HEALTHY", "DEGRADED", "FAILED", "PROBING"]

# The window moves in steps of this part of its length: fine enough that a verdict leaves it no
# more than 1/8 early, coarse enough that the sums stay cheap.
_STEPS = 8


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """When a model counts as degraded, failed, recovered. Shares are of judged events."""

    window_ns: int
    degraded_share: float
    failed_share: float
    minimum_events: int
    recovered_events: int

    def __post_init__(self) -> None:
        assert self.window_ns > 0
        assert 0.0 < self.degraded_share <= self.failed_share <= 1.0
        assert self.minimum_events > 0
        assert self.recovered_events > 0


class ModelHealth:
    """The state of one model; time is always an argument."""

    def __init__(self, config: HealthConfig, now_ns: int) -> None:
        self.config = config
        self.state: State = "HEALTHY"
        self.since_ns = now_ns
        self._steps: deque[tuple[int, int, int]] = deque()  # start, good, bad
        self._good = 0
        self._bad = 0
        self._bad_run = 0
        self._good_since = self._bad_since = 0  # verdicts in the present state, however long ago

    @property
    def is_well(self) -> bool:
        """Whether an event waits for this model, however the others are."""
        return self.state in {"HEALTHY", "DEGRADED"}

    @property
    def bad_share(self) -> float:
        """Share of bad verdicts in the window; 0 without evidence."""
        total = self._good + self._bad
        return self._bad / total if total else 0.0

    def update(self, answered: int, refused: int, missed: int, now_ns: int) -> State:
        """Take in the verdicts on some events; the new state."""
        bad = refused + missed
        self._forget(now_ns)
        self._remember(answered, bad, now_ns)
        self._bad_run = 0 if answered else self._bad_run + bad
        self._good_since += answered
        self._bad_since += bad
        state = self._next(answered, now_ns)
        if state != self.state:
            self._enter(state, now_ns)
            if state == "PROBING":
                # They may have come all at once; the bad ones were those of a failed model.
                self._remember(answered, 0, now_ns)
                self._good_since = answered
        return self.state

    def _next(self, answered: int, now_ns: int) -> State:
        """The table, row by row."""
        config = self.config
        if self.state == "FAILED":
            return "PROBING" if answered else "FAILED"
        enough = self._good + self._bad >= config.minimum_events
        if self._bad_run >= config.minimum_events:
            return "FAILED"
        if enough and self.bad_share >= config.failed_share:
            return "FAILED"
        if self.state == "PROBING":
            flawless = not self._bad_since and now_ns - self.since_ns >= config.window_ns
            recovered = flawless or self._good_since >= config.recovered_events
            back = answered and recovered and self.bad_share < config.degraded_share
            return "HEALTHY" if back else "PROBING"
        if self.state == "DEGRADED":
            return "HEALTHY" if self.bad_share < config.degraded_share / 2 else "DEGRADED"
        return "DEGRADED" if enough and self.bad_share >= config.degraded_share else "HEALTHY"

    def _enter(self, state: State, now_ns: int) -> None:
        self.state = state
        self.since_ns = now_ns
        if state in {"PROBING", "FAILED"}:
            # The past is settled; what counts from here is what it does from here.
            self._steps.clear()
            self._good = self._bad = self._bad_run = self._good_since = self._bad_since = 0

    def _remember(self, good: int, bad: int, now_ns: int) -> None:
        step = self.config.window_ns // _STEPS or 1
        if self._steps and now_ns - self._steps[-1][0] < step:
            start, earlier_good, earlier_bad = self._steps.pop()
            self._steps.append((start, earlier_good + good, earlier_bad + bad))
        elif good or bad:
            self._steps.append((now_ns, good, bad))
        self._good += good
        self._bad += bad

    def _forget(self, now_ns: int) -> None:
        while self._steps and now_ns - self._steps[0][0] > self.config.window_ns:
            _, good, bad = self._steps.popleft()
            self._good -= good
            self._bad -= bad


def awaited(members: Sequence[ModelHealth], reserves: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool[M]: for whom an event waits; never for the reserves, which are bool[M]."""
    well: NDArray[np.bool_] = np.array([member.is_well for member in members]) & ~reserves
    if well.any():
        return well
    probing: NDArray[np.bool_] = np.array([member.state == "PROBING" for member in members])
    return probing & ~reserves
