"""What leaves the combiner together."""

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
