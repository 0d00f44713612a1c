"""How each model is doing, and did since it was last asked."""

from dataclasses import dataclass, field

from combiner.answers import Answers
from combiner.health import ModelHealth, State


@dataclass(slots=True)
class Tally:
    """How one model did since the last report; `latency_ns` is summed over `filled` answers."""

    answered: int = 0
    refused: int = 0
    missed: int = 0
    filled: int = 0
    late: int = 0
    latency_ns: int = 0

    def count(self, answers: Answers) -> None:
        """What became of some answers."""
        self.filled += answers.filled
        self.late += answers.late
        self.latency_ns += answers.latency_ns


@dataclass(slots=True)
class Column:
    """Where a model's answers go in the joins, and how it is doing."""

    index: int
    health: ModelHealth
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A model's state and what led to it."""

    model: str
    state: State
    since_ns: int
    tally: Tally
