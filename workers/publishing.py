"""The models' way out: answers to a micro-batch, as frames on the predictions topic."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streams import signals
from streams.frames import PredictionFrame, Timing, encode_frames
from streams.metrics import Metrics
from streams.sink import Sink
from workers.batching import MicroBatch, Share
from workers.protocol import Model
from workers.scoring import Scores, kind_of

# A refusal of 200 characters for each event keeps a record below the broker's 1 MB default, and
# so do the numbers of all models that share it.
FRAME_ROWS = 2000
_RECORD_CELLS = 50_000

# (ticket, answers) that the broker has taken over.
Acknowledge = Callable[[list[tuple[int, int]]], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model says of a micro-batch."""

    model: Model
    scores: Scores
    timing: Timing


class Publisher:
    """Writes answers to the partitions of their events; any thread.

    Args:
        topic: the predictions topic.
        sink: the door to it.
        acknowledge: told what the broker has, from whichever thread polls the sink.
        metrics: where signals go.
    """

    def __init__(self, topic: str, sink: Sink, acknowledge: Acknowledge, metrics: Metrics) -> None:
        self._topic = topic
        self._sink = sink
        self._acknowledge = acknowledge
        self._metrics = metrics

    def publish(self, batch: MicroBatch, answers: Sequence[Answer]) -> None:
        """Write what some models say of a batch. Raises what the sink raises.

        Models share a record, and the events in it; those without refusals one, because that is
        joined at once, and those with refusals another.
        """
        refusing = [answer for answer in answers if answer.scores.refusals]
        together = [answer for answer in answers if not answer.scores.refusals]
        for said in filter(None, (together, refusing)):
            for share in batch.places:
                self._send(share, said)
        for answer in answers:
            self._count(answer.model.name, len(batch), answer.scores)

    def _send(self, share: Share, answers: Sequence[Answer]) -> None:
        numbers = sum(answer.model.columns for answer in answers)
        refusing = sum(bool(answer.scores.refusals) for answer in answers)
        most = max(1, min(FRAME_ROWS // max(1, refusing), _RECORD_CELLS // numbers))
        key = ",".join(answer.model.name for answer in answers).encode()
        tickets = [(part.ticket, len(part) * len(answers)) for part in share.parts]
        count = len(share.rows)
        for begin in range(0, count, most):
            rows, offsets = share.rows[begin : begin + most], share.offsets[begin : begin + most]
            part = share.parts[0]
            frames = [
                _frame(answer, part.topic, part.partition, offsets, rows) for answer in answers
            ]
            # Records of one partition are acknowledged in order.
            last = begin + most >= count
            self._sink.produce(
                self._topic,
                key=key,
                value=encode_frames(frames),
                partition=part.partition,
                on_delivered=partial(self._acknowledge, tickets) if last else None,
            )

    def _count(self, model: str, rows: int, scores: Scores) -> None:
        for kind, count in Counter(map(kind_of, scores.refusals.values())).items():
            self._metrics.counter(signals.REFUSALS, model, kind).inc(count)
        self._metrics.counter(signals.PREDICTIONS, model).inc(rows - len(scores.refusals))


def _frame(
    answer: Answer,
    topic: str,
    partition: int,
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> PredictionFrame:
    return PredictionFrame(
        answer.model.name,
        answer.model.version,
        topic,
        partition,
        offsets,
        answer.scores.values[rows],
        answer.scores.refusals_of(rows),
        answer.timing,
    )
