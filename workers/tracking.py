"""How far each partition is done, while models finish out of step with each other.

Every fetched batch gets a ticket that is open until all models' answers for it are acknowledged.
A partition may be committed up to its first open ticket: after a crash whatever was not answered
by everybody is read again, and an answer given twice fills the same cell.
"""

from collections import deque
from dataclasses import dataclass

Place = tuple[str, int]


@dataclass(slots=True)
class _Ticket:
    place: Place
    next_offset: int
    missing: int


class CommitTracker:
    """Tickets in, positions out."""

    def __init__(self) -> None:
        self._number = 0
        self._tickets: dict[int, _Ticket] = {}
        self._order: dict[Place, deque[_Ticket]] = {}
        self._moved: dict[Place, int] = {}

    def __len__(self) -> int:
        """Tickets that wait for answers."""
        return len(self._tickets)

    def open(self, place: Place, next_offset: int, answers: int) -> int:
        """A ticket for a batch.

        Args:
            place: its topic and partition; batches of one place come in order of offsets.
            next_offset: the offset behind its last record.
            answers: how many will be acknowledged: good rows times models. None at all is a
                batch that is done.
        """
        self._number += 1
        ticket = _Ticket(place, next_offset, answers)
        self._order.setdefault(place, deque()).append(ticket)
        if answers:
            self._tickets[self._number] = ticket
        else:
            self._advance(place)
        return self._number

    def acknowledge(self, number: int, answers: int) -> None:
        """So many answers arrived. A ticket of a place that was forgotten is nobody's business."""
        ticket = self._tickets.get(number)
        if ticket is None:
            return
        ticket.missing -= answers
        assert ticket.missing >= 0, "more answers than rows"
        if not ticket.missing:
            del self._tickets[number]
            self._advance(ticket.place)

    def _advance(self, place: Place) -> None:
        order = self._order[place]
        while order and not order[0].missing:
            self._moved[place] = order.popleft().next_offset

    def take_positions(self) -> dict[Place, int]:
        """For each place that moved since the last call, the offset to commit."""
        moved, self._moved = self._moved, {}
        return moved

    def forget(self, place: Place) -> None:
        """The place is somebody else's: no position of it is given any more."""
        self._order.pop(place, None)
        self._moved.pop(place, None)
        gone = [number for number, ticket in self._tickets.items() if ticket.place == place]
        for number in gone:
            del self._tickets[number]
