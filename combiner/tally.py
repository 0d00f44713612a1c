"""How each model did since it was last asked."""

from dataclasses import dataclass

from combiner.health import State


@dataclass(slots=True)
class Tally:
    """How one model did since the last report; `latency_ns` is summed over `filled` answers."""

    answered: int = 0
    refused: int = 0
    missed: int = 0
    filled: int = 0
    late: int = 0
    latency_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A model's state and what led to it."""

    model: str
    state: State
    since_ns: int
    tally: Tally
