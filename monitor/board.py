"""What is known of a model when several combiners watch it.

Each combiner sees the partitions it owns, so each has a view of its own; a model that answers
everybody but one is in trouble all the same. Hence the worst of the views counts. A view that was
not renewed for some time is that of a combiner that has gone, and counts no more: without this a
dead combiner's last word would stand for ever.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from streams.records import HealthRecord, ModelState

# A combiner speaks once a second; after five silent seconds it has been killed or is stuck.
EXPIRY_MS = 5_000
# From the best to the worst. A model on probation has just been the worst.
SEVERITY: tuple[ModelState, ...] = ("HEALTHY", "DEGRADED", "PROBING", "FAILED")

Verdict = ModelState | Literal["UNKNOWN"]


class View(msgspec.Struct, frozen=True):
    """What one combiner last said about a model, and when that arrived here (wall clock)."""

    state: ModelState
    seen_ms: int


Views = dict[str, View]


def with_view(views: Mapping[str, View], record: HealthRecord, now_ms: int) -> Views:
    """The views of a model after one more record; expired ones are dropped."""
    return fresh(views, now_ms) | {record.combiner: View(record.state, now_ms)}


def fresh(views: Mapping[str, View], now_ms: int) -> Views:
    """The views that still count.

    A view from the future (the clock has gone back) counts: it is renewed within a second.
    """
    return {name: view for name, view in views.items() if now_ms - view.seen_ms < EXPIRY_MS}


def verdict(views: Mapping[str, View], now_ms: int) -> Verdict:
    """The worst state among the views that count; `UNKNOWN` without any.

    >>> views = {"0": View("HEALTHY", 1000), "1": View("FAILED", 4000)}
    >>> verdict(views, now_ms=5000), verdict({"0": views["0"]}, now_ms=6000)
    ('FAILED', 'UNKNOWN')
    """
    found = fresh(views, now_ms).values()
    return max((view.state for view in found), key=SEVERITY.index, default="UNKNOWN")
