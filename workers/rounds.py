"""Small batches of quick models: one thread asks them in turn, and their answers leave together.

A thread for each model keeps the slow ones from holding up the others. For five calls of a tenth
of a millisecond it is waste: to wake five threads costs more than the calls, and so do five times
as many records. So while there is little to do, the models that have shown themselves to be quick
(`workers.quickness`) share a thread. If one of them takes its time all the same, the others are
taken back and given to threads of their own.
"""

import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.batching import Mailbox, MicroBatch, RecordBatch
from workers.lane import Lane
from workers.publishing import Answer, Publisher
from workers.quickness import LONG_CALL_NS, SMALL_ROWS

# Fewer gain nothing from sharing.
_FEWEST = 2


@dataclass(slots=True, eq=False)
class _Round:
    """One micro-batch, the models that have not begun with it, and what the others said."""

    parts: Sequence[RecordBatch]
    batch: MicroBatch
    waiting: deque[Lane]
    present: Lane | None = None
    answers: list[Answer] = field(default_factory=list)
    broken_up: bool = False


class Rounds:
    """The thread that quick models share, and its work.

    Args:
        publisher: where answers go.
    """

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[_Round | None] = queue.SimpleQueue()
        self._rows = 0  # on their way through here
        self._round: _Round | None = None

    @property
    def busy(self) -> bool:
        """Whether somebody should `watch`."""
        return self._round is not None

    # -- the feed's side ---------------------------------------------------------------------

    def take(self, batches: Sequence[RecordBatch], lanes: Sequence[Lane]) -> frozenset[Lane]:
        """Hand over what one fetch brought; which models will answer it here."""
        rows = sum(map(len, batches))
        quick = [lane for lane in lanes if lane.may_share(rows)]
        if len(quick) < _FEWEST:
            return frozenset()
        with self._lock:
            if self._rows + rows > SMALL_ROWS or self._is_held_up():
                return frozenset()
            self._rows += rows
        mailbox = Mailbox()
        for batch in batches:
            mailbox.put(batch)
        for lane in quick:
            lane.enter(rows)
        self._inbox.put(_Round(batches, mailbox.take(rows), deque(quick)))
        return frozenset(quick)

    def watch(self) -> None:
        """Let nobody wait for a call that takes long. Raises what the sink raises."""
        with self._lock:
            round_ = self._round
            if round_ is None or round_.broken_up or not self._is_held_up():
                return
            round_.broken_up = True
            answers, round_.answers = round_.answers, []
            given_back = [(lane, round_.parts) for lane in round_.waiting]
            round_.waiting.clear()
        self._publish(round_.batch, answers)
        for lane, parts in given_back + self._take_back():
            lane.put(parts)

    def _is_held_up(self) -> bool:
        """Whether the present call takes long; with the lock held."""
        present = None if self._round is None else self._round.present
        return present is not None and present.busy_ns() > LONG_CALL_NS

    def _take_back(self) -> list[tuple[Lane, Sequence[RecordBatch]]]:
        """The rounds that have not begun."""
        found: list[tuple[Lane, Sequence[RecordBatch]]] = []
        while True:
            try:
                round_ = self._inbox.get_nowait()
            except queue.Empty:
                return found
            if round_ is None:
                self._inbox.put(None)
                return found
            found += [(lane, round_.parts) for lane in round_.waiting]
            with self._lock:
                self._rows -= len(round_.batch)

    def close(self) -> None:
        """Let the thread end after the call under way."""
        self._inbox.put(None)

    # -- the thread's side -------------------------------------------------------------------

    def serve(self) -> None:
        """One round after the other, until `close`. Raises what the sink raises."""
        while (round_ := self._inbox.get()) is not None:
            with self._lock:
                self._round = round_
            while (lane := self._next(round_)) is not None:
                answer = lane.answer(round_.batch)
                lane.left_round(len(round_.batch))
                with self._lock:
                    round_.present = None
                    alone = round_.broken_up
                    if not alone:
                        round_.answers.append(answer)
                if alone:
                    self._publish(round_.batch, [answer])
            with self._lock:
                self._round = None
                self._rows -= len(round_.batch)
                answers, round_.answers = round_.answers, []
            self._publish(round_.batch, answers)

    def _next(self, round_: _Round) -> Lane | None:
        with self._lock:
            round_.present = round_.waiting.popleft() if round_.waiting else None
            return round_.present

    def _publish(self, batch: MicroBatch, answers: Sequence[Answer]) -> None:
        if answers:
            self._publisher.publish(batch, answers)
