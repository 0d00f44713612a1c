"""Where to read from when the client knows no offset that exists.

There are two reasons. A partition of which nothing was ever committed begins where the user says
(`auto.offset.reset`, the beginning by default), and nobody is told. A partition whose committed
offset is gone, because retention deleted records that were not read yet or because the topic was
made anew, is never skipped silently: `kafka.on_missing_offsets` says what to do.
"""

from dataclasses import dataclass
from typing import Literal

from streams.errors import MissingRecordsError

Policy = Literal["stop", "earliest", "latest"]
End = Literal["beginning", "end"]

# Values of `auto.offset.reset`.
_AT_THE_END = frozenset({"latest", "end", "largest"})
_NOWHERE = frozenset({"error", "none"})


@dataclass(frozen=True, slots=True)
class Skip:
    """Reading goes on at `start`; `missing` records before it were never read."""

    start: int
    missing: int
    problem: str


def first_start(where: str, reset: str) -> End:
    """Where a partition begins of which nothing was committed.

    >>> first_start("events/0", "earliest"), first_start("events/0", "latest")
    ('beginning', 'end')

    Raises:
        MissingRecordsError: the user wants no beginning.
    """
    if reset in _NOWHERE:
        raise MissingRecordsError(f"{where}: no committed offset, and none is wanted")
    return "end" if reset in _AT_THE_END else "beginning"


def skip_of(where: str, wanted: int, low: int, high: int, policy: Policy) -> Skip:
    """What to do about a committed offset that does not exist.

    >>> skip_of("events/0", 3, 8, 10, "earliest").start
    8

    Args:
        where: the partition, for messages.
        wanted: the committed offset.
        low: the first offset that exists.
        high: the offset that the next record will have.
        policy: the setting.

    Raises:
        MissingRecordsError: the policy is to stop.
    """
    if wanted < low:
        missing = low - wanted
        problem = f"{missing} records from offset {wanted} on were deleted before they were read"
    else:
        problem = f"offset {wanted} lies behind the end, {high}; was the topic made anew?"
    if policy == "stop":
        raise MissingRecordsError(
            f'{where}: {problem}; kafka.on_missing_offsets = "earliest" would go on at {low}, '
            f'"latest" at {high}'
        )
    start = high if policy == "latest" else low
    return Skip(start, max(0, start - wanted), f"{where}: {problem}; going on at {start}")
