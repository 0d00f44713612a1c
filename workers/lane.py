"""One model's way: what waits for it, its calls, and its thread.

Several threads meet here. The feed counts rows in, the model's thread or the one that quick models
share (`workers.rounds`) scores and counts them out, the event loop watches. Each field has one
writer.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams import signals
from streams.frames import Timing
from streams.instants import NS_PER_MS, Clock
from streams.metrics import Metrics
from workers.batching import BatchLimit, Mailbox, MicroBatch, RecordBatch
from workers.examiner import Examiner
from workers.marks import Marks
from workers.protocol import Model
from workers.publishing import Answer, Publisher
from workers.quickness import SMALL_ROWS, Quickness
from workers.scoring import called, refused
from workers.suspicion import Past

log = logging.getLogger(__name__)

PAUSED = "paused"
OVERLOADED = "overloaded"
QUARANTINED = "quarantined"

_SECONDS_PER_NS = 1e-9


class Lane:
    """A model, and what waits for it.

    Args:
        model: who answers.
        publisher: where its answers go.
        max_rows: rows of a micro-batch at most.
        marks: where its calls are marked.
        past: what is known of it.
        alone: held while a single row is on trial; shared by all lanes.
        metrics: where signals go.
        clock: the time.
    """

    def __init__(
        self,
        model: Model,
        publisher: Publisher,
        max_rows: int,
        marks: Marks,
        past: Past,
        alone: threading.Lock,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.model = model
        self.limit = BatchLimit(max_rows)
        self.paused = False
        self.marks = marks
        self.past = past
        self._examiner = Examiner(model, self._ask, marks, past, alone)
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._inbox: queue.SimpleQueue[Sequence[RecordBatch] | None] = queue.SimpleQueue()
        self._mailbox = Mailbox()
        self._quickness = Quickness()
        self._calling = threading.Lock()
        self._entered_rows = 0
        self._put_rows = 0
        self._left_rows = 0
        self._left_in_rounds = 0
        self._busy_since_ns: int | None = None
        self._cpu_ns = 0  # of the calls of the batch under way

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def backlog_rows(self) -> int:
        """Rows that entered and are not answered."""
        return self._entered_rows - self._left_rows - self._left_in_rounds

    def may_share(self, rows: int) -> bool:
        """Whether others may wait for its call with so many rows; the feed's thread."""
        return (
            rows <= min(self.limit.rows, SMALL_ROWS)
            and self._quickness.shown
            and self._put_rows == self._left_rows
            and not (self.paused or self.past.quarantined or self.past.suspects)
        )

    def busy_ns(self) -> int:
        """How long the present call of the model lasts; 0 without one."""
        since_ns = self._busy_since_ns
        return 0 if since_ns is None else self._clock.monotonic_ns() - since_ns

    def enter(self, rows: int) -> None:
        """Rows are about to be handed over; the feed's thread."""
        self._entered_rows += rows

    def put(self, batches: Sequence[RecordBatch]) -> None:
        """Hand over to the model's own thread what one fetch brought; the feed's thread."""
        self._put_rows += sum(map(len, batches))
        self._inbox.put(batches)

    def close(self) -> None:
        """Let the model's thread end after the call under way; any thread."""
        self._inbox.put(None)

    def shed(self, batch: RecordBatch) -> None:
        """Refuse a batch that nobody will come to; the feed's thread."""
        scores = refused(len(batch), OVERLOADED, self.model.columns)
        answer = Answer(self.model, scores, Timing())
        self._publisher.publish(MicroBatch((batch,), batch.matrix), [answer])

    def serve(self) -> None:
        """Work off what comes, until `close`; the model's thread. Raises what the sink raises.

        One micro-batch after the other, each of all that waits by then.
        """
        while self._take_in():
            batch = self._mailbox.take(self.limit.rows)
            self._publisher.publish(batch, [self.answer(batch)])
            self._left_rows += len(batch)

    def _take_in(self) -> bool:
        """Take what came, and wait for it if there is nothing to do; False at the end."""
        while not len(self._mailbox) or not self._inbox.empty():
            batches = self._inbox.get()
            if batches is None:
                return False
            for batch in batches:
                self._mailbox.put(batch)
        return True

    def left_round(self, rows: int) -> None:
        """So many rows were answered in a round; the thread that quick models share."""
        self._left_in_rounds += rows

    def answer(self, batch: MicroBatch) -> Answer:
        """Score a batch; any thread, one at a time."""
        with self._calling:
            begun_ns, self._cpu_ns = self._clock.monotonic_ns(), 0
            out_of_service = QUARANTINED if self.past.quarantined else PAUSED if self.paused else ""
            if out_of_service:
                scores = refused(len(batch), out_of_service, self.model.columns)
            else:
                scores = self._examiner.score(batch)
            took_ns = self._clock.monotonic_ns() - begun_ns
            if not out_of_service:
                self.limit.observe(len(batch), took_ns)
                self._quickness.observe(len(batch), took_ns)
            cpu_ns = self._cpu_ns
        queued_ns = begun_ns - batch.received_ns
        metrics = self._metrics
        metrics.histogram(signals.BATCH_ROWS, self.name).observe(len(batch))
        metrics.histogram(signals.MODEL_SECONDS, self.name).observe(took_ns * _SECONDS_PER_NS)
        metrics.counter(signals.MODEL_CPU, self.name).inc(cpu_ns * _SECONDS_PER_NS)
        metrics.histogram(signals.QUEUE_SECONDS, self.name).observe(queued_ns * _SECONDS_PER_NS)
        return Answer(self.model, scores, Timing(queued_ns / NS_PER_MS, took_ns / NS_PER_MS))

    def _ask(self, matrix: NDArray[np.float64]) -> NDArray[np.float64] | str:
        self._busy_since_ns = self._clock.monotonic_ns()
        begun_ns = time.thread_time_ns()
        try:
            return called(self.model.predict, matrix, self.model.columns)
        finally:
            self._cpu_ns += time.thread_time_ns() - begun_ns
            self._busy_since_ns = None
