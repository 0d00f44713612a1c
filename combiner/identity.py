"""Who a combiner is, to Kafka."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this combiner is: its slot, and the names that follow from it."""

    ensemble: str
    slot: str

    @property
    def group(self) -> str:
        """The consumer group of all combiners of the ensemble."""
        return f"{self.ensemble}.combiner"

    @property
    def member(self) -> str:
        """This one: its static membership and its transactional id."""
        return f"{self.group}.{self.slot}"
