"""What leaves the combiner together, and where to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from combiner.output import Output, Place
from streams.columns import Position


@dataclass(frozen=True, slots=True)
class Shipment:
    """What leaves together: outputs, and the positions that hold once they have left.

    `group` is the consumer group's metadata, for a transaction.
    """

    outputs: Sequence[Output]
    positions: Mapping[Place, Position]
    group: object = None

    @property
    def events(self) -> int:
        """Outcomes in it."""
        return sum(len(output) for output in self.outputs)


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """Where to, under which identity, and how surely.

    Attributes:
        producer: librdkafka properties of the producer.
        scored: topic of scored records.
        dead_letters: topic of dead letters.
        corrections: topic of corrections; empty if they go nowhere.
        ensemble: `name@version`, for dead-letter headers.
        transactional_id: stable for this slot; empty for at-least-once delivery.
        commit_interval_ms: least time between two transactions.
    """

    producer: Mapping[str, object]
    scored: str
    dead_letters: str
    ensemble: str
    transactional_id: str
    commit_interval_ms: int
    corrections: str = ""


@dataclass(slots=True)
class Load:
    """Shipments taken together by the thread."""

    shipments: list[Shipment] = field(default_factory=list)
    events: int = 0

    def add(self, shipment: Shipment) -> None:
        """One more, behind the others."""
        self.shipments.append(shipment)
        self.events += shipment.events

    @property
    def positions(self) -> dict[Place, Position]:
        """The last that was said of each partition."""
        latest: dict[Place, Position] = {}
        for shipment in self.shipments:
            latest.update(shipment.positions)
        return latest
