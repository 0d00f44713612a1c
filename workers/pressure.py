"""Which models the others wait for.

A model that is behind holds up the whole process at first: after an outage that is what gives
every event all its members. It may do so only while the process gains on its input. If what is
still to be read does not shrink, the model is too slow for what comes in, and waiting for it would
only make the others late as well: it is left behind, and what it has no room for is refused.
"""

from collections.abc import Sequence
from typing import NamedTuple

from streams.instants import NS_PER_MS

# So long a model may hold up the others before the lag must have shrunk.
PATIENCE_NS = 2000 * NS_PER_MS


class Load(NamedTuple):
    """What a model has to do: rows that wait, and whether its present call takes seconds."""

    rows: int
    stuck: bool


class Pressure:
    """Watches the loads of all models of a process.

    Args:
        max_rows: more waiting rows than this are too many for a model.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._left_behind: set[int] = set()
        self._since_ns: int | None = None
        self._lag_records = 0

    def blocks(self, loads: Sequence[Load]) -> bool:
        """Whether nothing should be fetched until models have caught up."""
        return any(
            load.rows > self._max_rows and not load.stuck and model not in self._left_behind
            for model, load in enumerate(loads)
        )

    def sheds(self, model: int, load: Load) -> bool:
        """Whether a model's next rows should be refused, as it will not come to them."""
        return load.rows > self._max_rows and (load.stuck or model in self._left_behind)

    def is_due(self, loads: Sequence[Load], now_ns: int) -> bool:
        """Whether it is time to `judge`; to be asked every now and then."""
        half = self._max_rows // 2
        self._left_behind = {model for model in self._left_behind if loads[model].rows > half}
        waited_for = [m for m in range(len(loads)) if m not in self._left_behind]
        if not any(loads[model].rows > half for model in waited_for):
            self._since_ns = None
            return False
        return self._since_ns is None or now_ns - self._since_ns >= PATIENCE_NS

    def judge(self, loads: Sequence[Load], lag_records: int, now_ns: int) -> list[int]:
        """Leave behind the models that keep the process from gaining; which are new.

        Args:
            loads: of all models.
            lag_records: what is still to be read.
            now_ns: the time.
        """
        begun, self._since_ns = self._since_ns is None, now_ns
        gained, self._lag_records = lag_records < self._lag_records, lag_records
        if begun or gained or not lag_records:
            return []
        # Up to the limit a queue is full; just below it, it was a moment ago.
        full = self._max_rows - self._max_rows // 10
        late = [
            model
            for model, load in enumerate(loads)
            if load.rows > full and model not in self._left_behind
        ]
        self._left_behind.update(late)
        return late
