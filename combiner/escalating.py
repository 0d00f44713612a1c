"""The deadline join of a cascade: heavy models are asked only where the others are uncertain.

It is the join of `combiner.join` with these rules more:

1. A heavy model's cell begins as NOT_ASKED. Nobody waits for it, it is judged neither good nor
   bad, and what comes for it all the same fills it.
2. Once a row waits for nobody, its rule is asked, once: of all such rows together, before any of
   them can leave. Where the others are uncertain the heavy cells become WAITING, and the row is
   put out to be asked about (`take_escalated`); it then leaves as any other row. Where they are
   certain nothing changes, so that it leaves.
3. The deadline is one. A row whose time is up before its rule could be asked is not asked about:
   nobody could answer in time.
4. A heavy model that nobody waits for is asked all the same: how else could it show that it is
   back?
5. A model cannot stand still while it is asked nothing. For backlog its time counts from the first
   question on.
"""

import numpy as np

from combiner.answers import Answers, Cells
from combiner.join import CHUNK_ROWS, DeadlineJoin
from combiner.limits import JoinConfig
from combiner.rows import Bools, Ints, indices
from combiner.settled import NOT_ASKED, REFUSED, WAITING, Settled

_NOBODY: Ints = np.empty(0, dtype=np.int64)


class EscalatingJoin(DeadlineJoin):
    """A join with the cascade of its configuration."""

    def __init__(self, config: JoinConfig, expected: Bools) -> None:
        assert config.cascade is not None
        super().__init__(config, expected)
        self._cascade = config.cascade
        self._heavy = np.flatnonzero(config.cascade.heavy)
        self._escalated: list[Ints] = []

    # -- what comes in -----------------------------------------------------------------------

    def _open(self, new: slice, scoreable: Bools) -> None:
        super()._open(new, scoreable)
        rows = self._rows
        waited_for = np.count_nonzero(self._expected & ~self._cascade.heavy)
        rows.asked[new] = ~scoreable
        rows.states[self._heavy, new] = np.where(scoreable, NOT_ASKED, REFUSED)
        rows.remaining[new] = np.where(scoreable, waited_for, 0)
        self._changed = True

    def _fill(
        self, member: int, which: slice | Ints, cells: Cells, now_ns: int, answers: Answers
    ) -> None:
        """An answer that nobody asked for counts."""
        rows = self._rows
        if self._cascade.heavy[member]:
            places = indices(which)
            unasked = places[rows.states[member, places] == NOT_ASKED]
            rows.states[member, unasked] = WAITING
            rows.remaining[unasked] += self._expected[member]
        super()._fill(member, which, cells, now_ns, answers)

    def set_expected(self, expected: Bools) -> None:
        """Say which models are waited for from now on; rows may become ready for their rule."""
        super().set_expected(expected)
        self._changed = True

    def ask(self, offsets: Ints, now_ns: int) -> None:
        """The heavy models were asked about these events, whatever the rule says."""
        _, which = self._rows.find(offsets)
        which = which[self._rows.scoreable[which]]
        self._rows.asked[which] = True
        self._await(which, now_ns)

    # -- what goes out -----------------------------------------------------------------------

    def settle(self, now_ns: int, limit: int = CHUNK_ROWS) -> Settled | None:
        """Ask the rule where it is time to, and let rows go that are done or due."""
        if self._changed:
            self._changed = False
            self._ask_rule(now_ns)
        return super().settle(now_ns, limit)

    def take_escalated(self) -> Ints:
        """int64[N], ascending: rows that heavy models must be asked about, since the last call."""
        escalated, self._escalated = self._escalated, []
        return np.sort(np.concatenate(escalated)) if escalated else _NOBODY

    def _ask_rule(self, now_ns: int) -> None:
        rows = self._rows
        span = slice(rows.head, rows.tail)
        ready = ~rows.asked[span] & ~rows.gone[span] & (rows.remaining[span] <= 0)
        which = rows.head + np.flatnonzero(ready & (rows.due_ns[span] > now_ns))
        if not len(which):
            return
        rows.asked[which] = True
        uncertain = self._cascade.escalates(rows.answers(which), rows.states[:, which].T)
        open_ = (rows.states[self._heavy[:, None], which] == NOT_ASKED).any(axis=0)
        which = which[uncertain & open_]
        if len(which):
            self._await(which, now_ns)
            self._escalated.append(rows.base + which)

    def _await(self, which: Ints, now_ns: int) -> None:
        """The heavy models are asked about these rows."""
        rows, heavy = self._rows, self._heavy
        span = slice(rows.head, rows.tail)
        waiting = (rows.states[heavy, span] == WAITING) & ~rows.gone[span]
        idle = heavy[~waiting.any(axis=1)]
        self._progress_ns[idle] = np.maximum(self._progress_ns[idle], now_ns)
        cells = heavy[:, None], which
        states = rows.states[cells]
        rows.states[cells] = np.where(states == NOT_ASKED, WAITING, states)
        waited = rows.states[:, which][self._expected] == WAITING
        rows.remaining[which] = np.count_nonzero(waited, axis=0)
