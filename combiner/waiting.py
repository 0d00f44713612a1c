"""How long the rows of a join wait (rule 2 of `combiner.join`)."""

import numpy as np

from combiner.limits import JoinConfig
from combiner.rows import Bools, Ints, Rows
from combiner.settled import WAITING


def begin_to_wait(rows: Rows, new: slice, backlog: Bools, config: JoinConfig, now_ns: int) -> None:
    """Say of new rows whether they are backlog, and how long they wait.

    Args:
        rows: those of the join; nothing is known of the new ones.
        new: where these are.
        backlog: bool[N], which of them lay in the topic before their reader came that far.
        config: the durations.
        now_ns: monotonic time.
    """
    fresh = ~backlog
    rows.seen_ns[new] = now_ns
    rows.backlog[new] = backlog
    rows.due_ns[new] = now_ns + np.where(fresh, config.deadline_ns, config.catch_up_limit_ns)
    rows.patient_ns[new] = now_ns + config.stall_ns
    if not _is_behind(rows, config, now_ns) or not fresh.any():
        return
    head, deadline_ns = rows.head, now_ns + config.deadline_ns
    rows.backlog[new] = True
    rows.due_ns[new][fresh] = max(int(rows.due_ns[head]), deadline_ns)
    rows.patient_ns[new][fresh] = max(int(rows.patient_ns[head]), deadline_ns)


def _is_behind(rows: Rows, config: JoinConfig, now_ns: int) -> bool:
    """Whether what comes now must stand behind backlog that has waited for a deadline already."""
    head = rows.head
    if not config.in_order or head == rows.tail or not rows.backlog[head]:
        return False
    return int(rows.seen_ns[head]) + config.deadline_ns <= now_ns


def done(
    rows: Rows,
    which: slice | Ints,
    expected: Bools,
    progress_ns: Ints,
    config: JoinConfig,
    now_ns: int,
) -> Bools:
    """bool[N]: which rows leave, but for their quorum.

    Args:
        rows: those of the join.
        which: N of them.
        expected: bool[M], the models that are waited for.
        progress_ns: int64[M], when each of them last answered anything.
        config: the durations.
        now_ns: monotonic time.
    """
    leaves: Bools = (rows.remaining[which] <= 0) | (rows.due_ns[which] <= now_ns)
    backlog = rows.backlog[which]
    if backlog.any() and not leaves.all():
        moving = expected & (progress_ns + config.stall_ns > now_ns)
        waits = (rows.states[:, which][moving] == WAITING).any(axis=0)
        leaves |= backlog & ~waits & (rows.patient_ns[which] <= now_ns)
    return leaves


def wakes_ns(
    rows: Rows, which: Ints, expected: Bools, progress_ns: Ints, config: JoinConfig
) -> Ints:
    """int64[N]: when each row leaves if nothing comes in, 0 is at once; arguments as in `done`."""
    wakes: Ints = rows.due_ns[which]
    backlog = rows.backlog[which]
    if backlog.any():
        waited = expected[:, None] & (rows.states[:, which] == WAITING)
        stood_ns = np.where(waited, progress_ns[:, None], 0).max(axis=0)
        still_ns = np.maximum(stood_ns + config.stall_ns, rows.patient_ns[which])
        wakes = np.where(backlog, np.minimum(wakes, still_ns), wakes)
    wakes[(rows.remaining[which] <= 0) | rows.met[which]] = 0
    return wakes
