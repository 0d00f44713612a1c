"""How long the rows of a join wait (rule 2 of `combiner.join`)."""

import numpy as np

from combiner.limits import JoinConfig
from combiner.rows import Bools, Rows


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
