"""Kafka without a network: partitions with gaps, consumer groups' positions, transactions.

What is kept is what the promises rest on. A transaction's records have offsets at once and are
read only when it is committed; nobody reads past an open one. Its end takes an offset of its own,
the marker. A group's positions inside a transaction count when it is committed, and until then
nobody may start reading from the old ones. Who begins under a transactional id ends whatever its
predecessor left open, and the predecessor is refused from then on.

A transaction may have ended and left no markers, as one does of a lone broker that was killed
meanwhile. What it wrote hangs: the next marker of the same transactional id counts for it, too, in
each partition alone, whatever that marker says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from simulation.clock import VirtualClock
from streams.columns import Place, Position
from streams.instants import NS_PER_MS
from streams.records import Header

# The broker gives up on a transaction whose producer is gone.
TRANSACTION_TIMEOUT_NS = 2_000 * NS_PER_MS


class RefusedError(Exception):
    """The broker says no: fenced, an old generation, or a request that failed."""


class UnstableError(Exception):
    """A position is inside an open transaction."""


End = Literal["committed", "aborted"]


@dataclass(slots=True)
class Part:
    """What a transaction wrote to one partition."""

    state: Literal["open"] | End = "open"
    ended_ns: int = -1


@dataclass(slots=True)
class Transaction:
    """Records and positions that become visible together or not at all."""

    begun_ns: int
    parts: dict[Place, Part] = field(default_factory=dict)
    positions: dict[tuple[str, Place], Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the log; reads like a message of the real client.

    `written_by` names the tenure that wrote it (see `simulation.journal`), -1 for anybody else.
    """

    place: Place
    number: int
    record_ms: int
    record_key: bytes | None
    record_value: bytes | None
    record_headers: Sequence[Header]
    appended_ns: int
    part: Part | None
    written_by: int

    @property
    def visible_ns(self) -> int:
        """When a `read_committed` reader could see it."""
        return self.appended_ns if self.part is None else self.part.ended_ns

    def topic(self) -> str:
        """As the client."""
        return self.place[0]

    def partition(self) -> int:
        """As the client."""
        return self.place[1]

    def offset(self) -> int:
        """As the client."""
        return self.number

    def timestamp(self) -> tuple[int, int]:
        """As the client: kind, milliseconds since 1970."""
        return 1, self.record_ms

    def key(self) -> bytes | None:
        """As the client."""
        return self.record_key

    def value(self) -> bytes | None:
        """As the client."""
        return self.record_value

    def headers(self) -> Sequence[Header]:
        """As the client."""
        return self.record_headers


class Log:
    """All topics; `watch` is told which place has something new.

    Args:
        clock: the time.
        most_metadata: characters that may stand beside a committed offset.
    """

    def __init__(self, clock: VirtualClock, most_metadata: int) -> None:
        self._clock = clock
        # The place in the list is the offset; None is an offset that no reader ever sees.
        self._entries: dict[Place, list[Entry | None]] = {}
        # All that ever were, the newest last.
        self._positions: dict[tuple[str, Place], list[Position]] = {}
        self._most_metadata = most_metadata
        self._epochs: dict[str, int] = {}
        self._open: dict[str, Transaction] = {}
        self._hanging: dict[str, list[Transaction]] = {}
        self.watch: list[Callable[[Place], None]] = []

    # -- records -----------------------------------------------------------------------------

    def append(
        self,
        place: Place,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
        *,
        record_ms: int | None = None,
        transaction: Transaction | None = None,
        written_by: int = -1,
    ) -> Entry:
        """Write a record."""
        entries = self._entries.setdefault(place, [])
        stamp = self._clock.wall_ms() if record_ms is None else record_ms
        part = None if transaction is None else transaction.parts.setdefault(place, Part())
        entry = Entry(
            place, len(entries), stamp, key, value, headers, self._clock.now_ns, part, written_by
        )
        entries.append(entry)
        self._tell(place)
        return entry

    def skip(self, place: Place, count: int) -> None:
        """Leave a gap, as compaction does and the ends of transactions."""
        self._entries.setdefault(place, []).extend([None] * count)

    def high_watermark(self, place: Place) -> int:
        """The offset of the next record."""
        return len(self._entries.get(place, ()))

    def read(self, place: Place, position: int, limit: int) -> tuple[list[Entry], int]:
        """Committed records from a position on, and the position behind them."""
        found: list[Entry] = []
        entries = self._entries.get(place, [])
        while position < len(entries) and len(found) < limit:
            entry = entries[position]
            if entry is not None and entry.part is not None:
                if entry.part.state == "open":
                    break
                if entry.part.state == "aborted":
                    entry = None
            position += 1
            if entry is not None:
                found.append(entry)
        return found, position

    def committed_records(self, topic: str) -> list[Entry]:
        """All that a `read_committed` reader sees of a topic, partition by partition."""
        places = sorted(place for place in self._entries if place[0] == topic)
        return [entry for place in places for entry in self.read(place, 0, 10**9)[0]]

    def all_entries(self) -> list[tuple[Place, list[Entry | None]]]:
        """Every partition with everything in it."""
        return sorted(self._entries.items())

    def _tell(self, place: Place) -> None:
        for told in self.watch:
            told(place)

    # -- positions ---------------------------------------------------------------------------

    def commit(self, group: str, positions: Mapping[Place, Position]) -> None:
        """A group's positions, outside of a transaction; raises RefusedError."""
        self._check_size(positions)
        for place, position in positions.items():
            self._positions.setdefault((group, place), []).append(position)

    def _check_size(self, positions: Mapping[Place, Position]) -> None:
        if any(len(position.metadata) > self._most_metadata for position in positions.values()):
            raise RefusedError("metadata too large")

    def committed(self, group: str, place: Place, age: int = 0) -> Position:
        """Where a group goes on; with an age where it would have gone on so many commits ago.

        Raises:
            UnstableError: ask again later.
        """
        for name, transaction in list(self._open.items()):
            if self._clock.now_ns - transaction.begun_ns > TRANSACTION_TIMEOUT_NS:
                self.begin_epoch(name)
            elif (group, place) in transaction.positions:
                raise UnstableError
        hanging = [each for several in self._hanging.values() for each in several]
        if any((group, place) in each.positions for each in hanging):
            raise UnstableError
        known = self._positions.get((group, place), [])
        return known[-1 - age] if age < len(known) else Position(0)

    # -- transactions ------------------------------------------------------------------------

    def begin_epoch(self, name: str) -> int:
        """A new producer under a transactional id: the old one is fenced."""
        self._epochs[name] = self._epochs.get(name, 0) + 1
        if name in self._open:
            self._end(name, "aborted")
        return self._epochs[name]

    def begin(self, name: str, epoch: int) -> Transaction:
        """Begin a transaction.

        Raises:
            RefusedError: a later producer has the id.
        """
        self._check(name, epoch)
        assert name not in self._open
        self._open[name] = Transaction(self._clock.now_ns)
        return self._open[name]

    def send_positions(
        self, name: str, epoch: int, group: str, positions: Mapping[Place, Position]
    ) -> None:
        """Put a group's positions into the open transaction; raises as `begin`."""
        self._check(name, epoch)
        self._check_size(positions)
        for place, position in positions.items():
            self._open[name].positions[(group, place)] = position

    def end(self, name: str, epoch: int, state: End, *, markers: bool = True) -> None:
        """Commit or abort, with markers or so that it hangs; raises as `begin`."""
        self._check(name, epoch)
        if name not in self._open:
            return
        if markers:
            self._end(name, state)
        else:
            self._hanging.setdefault(name, []).append(self._open.pop(name))

    def _check(self, name: str, epoch: int) -> None:
        if self._epochs[name] != epoch:
            raise RefusedError("fenced")

    def _end(self, name: str, state: End) -> None:
        transaction = self._open.pop(name)
        for each in [*self._hanging.get(name, ()), transaction]:
            self._mark(each, transaction, state)
        for place in transaction.parts:
            self.skip(place, 1)
            self._tell(place)

    def _mark(self, transaction: Transaction, marked: Transaction, state: End) -> None:
        """End what a transaction has where another one that ends leaves its markers."""
        for place in transaction.parts.keys() & marked.parts.keys():
            part = transaction.parts[place]
            if part.state == "open":
                part.state, part.ended_ns = state, self._clock.now_ns
        if marked.positions:
            if state == "committed":
                for key, position in transaction.positions.items():
                    self._positions.setdefault(key, []).append(position)
            if transaction is not marked:
                transaction.positions.clear()
