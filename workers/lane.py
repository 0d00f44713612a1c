"""One model's way: from micro-batches to frames on the predictions topic, on a thread of its own.

Three threads meet here. The feed counts rows in, the model's thread scores and counts them out,
the event loop watches. Each field has one writer.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streams import signals
from streams.frames import PredictionFrame, Timing, encode_frame
from streams.instants import NS_PER_MS, Clock
from streams.metrics import Metrics
from streams.sink import Sink
from workers.batching import BatchLimit, Mailbox, MicroBatch, RecordBatch
from workers.examiner import Examiner
from workers.marks import Marks
from workers.protocol import Model
from workers.scoring import Scores, called, kind_of, refused
from workers.suspicion import Past

log = logging.getLogger(__name__)

# A refusal of 200 characters for each event keeps a frame below the broker's 1 MB default.
FRAME_ROWS = 2000
PAUSED = "paused"
OVERLOADED = "overloaded"
QUARANTINED = "quarantined"

_SECONDS_PER_NS = 1e-9

# (ticket, rows) that the broker has taken over.
Acknowledge = Callable[[list[tuple[int, int]]], None]


class Lane:
    """A model, what waits for it, and where its answers go.

    Args:
        model: who answers.
        topic: the predictions topic.
        sink: the door to it.
        max_rows: rows of a micro-batch at most.
        marks: where its calls are marked.
        past: what is known of it.
        alone: held while a single row is on trial; shared by all lanes.
        acknowledge: told what the broker has, from whichever thread polls the sink.
        metrics: where signals go.
        clock: the time.
    """

    def __init__(
        self,
        model: Model,
        topic: str,
        sink: Sink,
        max_rows: int,
        marks: Marks,
        past: Past,
        alone: threading.Lock,
        acknowledge: Acknowledge,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.model = model
        self._inbox: queue.SimpleQueue[Sequence[RecordBatch] | None] = queue.SimpleQueue()
        self._mailbox = Mailbox()
        self.limit = BatchLimit(max_rows)
        self.paused = False
        self.marks = marks
        self.past = past
        self._examiner = Examiner(model, self._ask, marks, past, alone)
        self._topic = topic
        self._sink = sink
        self._acknowledge = acknowledge
        self._metrics = metrics
        self._clock = clock
        self._entered_rows = 0
        self._left_rows = 0
        self._busy_since_ns: int | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def backlog_rows(self) -> int:
        """Rows that entered and are not answered."""
        return self._entered_rows - self._left_rows

    def busy_ns(self) -> int:
        """How long the present call of the model lasts; 0 without one."""
        since_ns = self._busy_since_ns
        return 0 if since_ns is None else self._clock.monotonic_ns() - since_ns

    def enter(self, rows: int) -> None:
        """Rows are about to be `put`; the feed's thread."""
        self._entered_rows += rows

    def put(self, batches: Sequence[RecordBatch]) -> None:
        """Hand over what one fetch brought; any thread."""
        self._inbox.put(batches)

    def close(self) -> None:
        """Let the model's thread end after the call under way; any thread."""
        self._inbox.put(None)

    def shed(self, batch: RecordBatch) -> None:
        """Refuse a batch that nobody will come to; the feed's thread."""
        matrix = batch.matrix
        refusals = refused(len(matrix), OVERLOADED, self.model.columns)
        self._publish(MicroBatch((batch,), matrix), refusals, Timing())

    def serve(self) -> None:
        """Work off what comes, until `close`; the model's thread. Raises what the sink raises.

        One micro-batch after the other, each of all that waits by then.
        """
        while self._take_in():
            self._work(self._mailbox.take(self.limit.rows))

    def _take_in(self) -> bool:
        """Take what came, and wait for it if there is nothing to do; False at the end."""
        while not len(self._mailbox) or not self._inbox.empty():
            batches = self._inbox.get()
            if batches is None:
                return False
            for batch in batches:
                self._mailbox.put(batch)
        return True

    def _work(self, batch: MicroBatch) -> None:
        """Score and publish."""
        begun_ns = self._clock.monotonic_ns()
        out_of_service = QUARANTINED if self.past.quarantined else PAUSED if self.paused else ""
        if out_of_service:
            scores = refused(len(batch), out_of_service, self.model.columns)
        else:
            scores = self._examiner.score(batch)
        took_ns = self._clock.monotonic_ns() - begun_ns
        if not out_of_service:
            self.limit.observe(len(batch), took_ns)
        queued_ns = begun_ns - batch.received_ns
        self._publish(batch, scores, Timing(queued_ns / NS_PER_MS, took_ns / NS_PER_MS))
        self._left_rows += len(batch)
        metrics = self._metrics
        metrics.histogram(signals.BATCH_ROWS, self.name).observe(len(batch))
        metrics.histogram(signals.MODEL_SECONDS, self.name).observe(took_ns * _SECONDS_PER_NS)
        metrics.histogram(signals.QUEUE_SECONDS, self.name).observe(queued_ns * _SECONDS_PER_NS)

    def _ask(self, matrix: NDArray[np.float64]) -> NDArray[np.float64] | str:
        self._busy_since_ns = self._clock.monotonic_ns()
        try:
            return called(self.model.predict, matrix, self.model.columns)
        finally:
            self._busy_since_ns = None

    def _publish(self, batch: MicroBatch, scores: Scores, timing: Timing) -> None:
        for parts, rows in batch.by_place():
            offsets = parts[0].offsets
            if len(parts) > 1:
                offsets = np.concatenate([part.offsets for part in parts])
            tickets = [(part.ticket, len(part)) for part in parts]
            for begin in range(0, len(rows), FRAME_ROWS):
                piece = slice(begin, begin + FRAME_ROWS)
                last = begin + FRAME_ROWS >= len(rows)
                self._send(
                    parts[0],
                    offsets[piece],
                    scores,
                    rows[piece],
                    timing,
                    # Records of one partition are acknowledged in order.
                    partial(self._acknowledge, tickets) if last else None,
                )
        counted = Counter(map(kind_of, scores.refusals.values()))
        for kind, count in counted.items():
            self._metrics.counter(signals.REFUSALS, self.name, kind).inc(count)
        answered = len(batch) - len(scores.refusals)
        self._metrics.counter(signals.PREDICTIONS, self.name).inc(answered)

    def _send(
        self,
        part: RecordBatch,
        offsets: NDArray[np.int64],
        scores: Scores,
        rows: NDArray[np.int64],
        timing: Timing,
        on_delivered: Callable[[], None] | None,
    ) -> None:
        refusals: dict[int, str] = {}
        if scores.refusals:
            found = ((place, scores.refusals.get(row)) for place, row in enumerate(rows.tolist()))
            refusals = {place: reason for place, reason in found if reason is not None}
        frame = PredictionFrame(
            self.name,
            self.model.version,
            part.topic,
            part.partition,
            offsets,
            scores.values[rows],
            refusals,
            timing,
        )
        self._sink.produce(
            self._topic,
            key=self.name.encode(),
            value=encode_frame(frame),
            partition=part.partition,
            on_delivered=on_delivered,
        )
