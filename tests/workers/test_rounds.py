"""Models that share a thread: one record for all, and nobody waits for one that takes its time."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from chaos.reader import wait_for
from streams.frames import PredictionFrame, Timing, decode_frames
from streams.instants import MonotonicNs, WallMs
from streams.metrics import Metrics
from streams.signals import MODEL_CPU
from workers.batching import MicroBatch, RecordBatch
from workers.lane import Lane
from workers.marks import Witness
from workers.publishing import Answer, Publisher
from workers.quickness import FIRST_PROOF, LONG_CALL_NS, SMALL_ROWS
from workers.rounds import Rounds
from workers.scoring import refused
from workers.suspicion import Past, Span

TIMEOUT_S = 30.0


class Fake:
    """A model that adds a number to the first feature; its calls wait for a gate."""

    minimum = maximum = None
    columns = 1
    version = "1"

    def __init__(self, name: str, added: float) -> None:
        self.name = name
        self._added = added
        self.gate = threading.Event()
        self.gate.set()
        self.calling = threading.Event()
        self.error: Exception | None = None

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        self.calling.set()
        assert self.gate.wait(TIMEOUT_S)
        if self.error is not None:
            raise self.error
        return matrix[:, 0] + self._added


class FakeSink:
    """Keeps what is produced; acknowledges at once."""

    def __init__(self) -> None:
        self.records: list[list[PredictionFrame]] = []

    def produce(
        self,
        _topic: str,
        *,
        value: bytes,
        key: bytes,
        partition: int,
        on_delivered: Callable[[], None] | None,
    ) -> None:
        frames = decode_frames(value)
        assert key == ",".join(frame.model for frame in frames).encode()
        assert {frame.partition for frame in frames} == {partition}
        self.records.append(frames)
        if on_delivered is not None:
            on_delivered()

    def answers(self) -> dict[tuple[str, int, int], float]:
        """(model, partition, offset) → score; asserts that each came once."""
        found: dict[tuple[str, int, int], float] = {}
        for frame in (frame for frames in list(self.records) for frame in frames):
            for offset, score in zip(frame.offsets.tolist(), frame.scores.tolist(), strict=True):
                assert (frame.model, frame.partition, offset) not in found
                found[(frame.model, frame.partition, offset)] = score
        return found


class Hands:
    """A clock that moves a microsecond when it is looked at, and as far as it is turned."""

    def __init__(self) -> None:
        self._now_ns = 0

    def turn(self, ns: int) -> None:
        self._now_ns += ns

    def monotonic_ns(self) -> MonotonicNs:
        self._now_ns += 1000
        return MonotonicNs(self._now_ns)

    def wall_ms(self) -> WallMs:
        return WallMs(0)


class Stage:
    """Lanes with their threads, and rounds with theirs."""

    def __init__(self, models: Sequence[Fake]) -> None:
        self.sink, self.acknowledged = FakeSink(), []
        metrics = self.metrics = Metrics()
        witness = Witness(None, dict.fromkeys([m.name for m in models], ""))
        publisher = Publisher("p", self.sink, self.acknowledged.extend, metrics)  # type: ignore[arg-type]
        alone = threading.Lock()
        self.clock = Hands()
        self.lanes = [
            Lane(
                model,  # type: ignore[arg-type]
                publisher,
                2000,
                witness.marks[model.name],
                witness.pasts[model.name],
                alone,
                metrics,
                self.clock,
            )
            for model in models
        ]
        self.rounds = Rounds(publisher)
        self.next_offset = 0
        for serve in (self.rounds.serve, *(lane.serve for lane in self.lanes)):
            threading.Thread(target=serve, daemon=True).start()

    def batches(self, rows: int, partitions: int = 2) -> list[RecordBatch]:
        offsets = np.arange(self.next_offset, self.next_offset + rows)
        self.next_offset += rows
        matrix = offsets[:, None].astype(np.float64)
        return [
            RecordBatch("e", p, offsets, matrix + p / 10, self.clock.monotonic_ns(), p)
            for p in range(partitions)
        ]

    def hand_over(self, batches: list[RecordBatch]) -> set[str]:
        """As the feed does it; who answers in a round."""
        together = self.rounds.take(batches, self.lanes)
        for lane in self.lanes:
            if lane not in together:
                lane.enter(sum(map(len, batches)))
                lane.put(batches)
        return {lane.name for lane in together}

    def settle(self) -> None:
        def settled() -> bool:
            self.rounds.watch()
            return not any(lane.backlog_rows for lane in self.lanes) and not self.rounds.busy

        wait_for(settled, lambda: str([lane.backlog_rows for lane in self.lanes]))

    def prove(self) -> None:
        """Let every model show that it is quick, with batches as large as it gets."""
        for _ in range(FIRST_PROOF):
            self.hand_over(self.batches(min(lane.limit.rows for lane in self.lanes) // 2))
            self.settle()

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.rounds.close()

    def require_all(self) -> None:
        """Every model has answered every event, rightly, and once."""
        wanted = {
            (lane.name, p, offset): offset + p / 10 + number
            for number, lane in enumerate(self.lanes)
            for p in range(2)
            for offset in range(self.next_offset)
        }
        assert self.sink.answers() == pytest.approx(wanted)
        answered = sum(rows for _, rows in self.acknowledged)
        assert answered == len(wanted)


@pytest.fixture
def models() -> list[Fake]:
    return [Fake(name, number) for number, name in enumerate("abc")]


@pytest.fixture
def stage(models):
    stage = Stage(models)
    yield stage
    for model in models:
        model.gate.set()
    stage.close()


def test_who_has_shown_nothing_has_a_thread_of_its_own(stage):
    assert stage.hand_over(stage.batches(3)) == set()
    stage.settle()
    stage.require_all()


def test_quick_models_share_a_record_for_each_partition(stage):
    stage.prove()
    before = len(stage.sink.records)
    assert stage.hand_over(stage.batches(5)) == {"a", "b", "c"}
    stage.settle()
    new = stage.sink.records[before:]
    assert [[frame.model for frame in frames] for frames in new] == [["a", "b", "c"]] * 2
    stage.require_all()


def test_large_batches_go_to_each_model(stage):
    stage.prove()
    assert stage.hand_over(stage.batches(SMALL_ROWS)) == set()  # of each of two partitions
    stage.settle()
    stage.require_all()


def test_a_paused_or_suspected_model_is_left_out(stage):
    stage.prove()
    stage.lanes[0].paused = True
    assert stage.hand_over(stage.batches(1)) == {"b", "c"}
    stage.settle()
    stage.lanes[0].paused = False
    stage.lanes[1].past = Past("", suspects=(Span("e", 0, 10**6, 10**6),))
    assert stage.hand_over(stage.batches(1)) == {"a", "c"}
    stage.settle()


@pytest.mark.parametrize(("refusing", "others"), [("b", "ac"), ("bc", "a"), ("abc", "")])
def test_those_that_refuse_share_a_record_of_their_own(stage, models, refusing, others):
    stage.prove()
    for model in models:
        model.error = ValueError("not this one") if model.name in refusing else None
    before = len(stage.sink.records)
    assert stage.hand_over(stage.batches(1)) == {"a", "b", "c"}
    stage.settle()
    new = stage.sink.records[before:]
    shared = sorted("".join(frame.model for frame in frames) for frames in new)
    assert shared == sorted(2 * [name for name in (refusing, others) if name])
    for frame in (frame for frames in new for frame in frames):
        wanted = {0: "raised ValueError: not this one"} if frame.model in refusing else {}
        assert frame.refusals == wanted


@pytest.mark.parametrize("count", [1, 7, 60])
def test_records_stay_below_what_a_broker_takes_however_many_models_refuse(count):
    """And each says its part of it, once."""
    sink, rows = FakeSink(), 5000
    sizes: list[int] = []
    produce = sink.produce
    sink.produce = lambda *a, value, **k: (sizes.append(len(value)), produce(*a, value=value, **k))
    publisher = Publisher("p", sink, lambda _: None, Metrics())  # type: ignore[arg-type]
    offsets = np.arange(rows)
    batch = RecordBatch("e", 0, offsets, np.zeros((rows, 1)), MonotonicNs(0), 0)
    long = "raised " + 200 * "x"
    publisher.publish(
        MicroBatch((batch,), batch.matrix),
        [
            Answer(Fake(f"m{number}", 0.0), refused(rows, long), Timing())  # type: ignore[arg-type]
            for number in range(count)
        ],
    )
    assert max(sizes) < 1_000_000
    assert len(sink.answers()) == count * rows
    frames = [frame for record in sink.records for frame in record]
    assert all(len(frame.refusals) == len(frame.offsets) for frame in frames)


def test_nobody_waits_for_one_that_takes_its_time(stage, models):
    stage.prove()
    models[1].gate.clear()
    models[1].calling.clear()
    assert stage.hand_over(stage.batches(1)) == {"a", "b", "c"}
    assert models[1].calling.wait(TIMEOUT_S)
    stage.clock.turn(LONG_CALL_NS)
    # What comes now is not for the thread that is held up.
    assert stage.hand_over(stage.batches(1)) == set()

    def others_are_done() -> bool:
        stage.rounds.watch()
        return not (stage.lanes[0].backlog_rows or stage.lanes[2].backlog_rows)

    wait_for(others_are_done, lambda: str(stage.sink.records))
    assert stage.lanes[1].backlog_rows == 4
    models[1].gate.set()
    stage.settle()
    stage.require_all()
    # It has to show anew that it is quick; the others go on without it.
    assert stage.hand_over(stage.batches(1)) == {"a", "c"}
    stage.settle()
    stage.require_all()


def test_rounds_that_wait_behind_a_long_call_are_taken_back(stage, models):
    stage.prove()
    models[0].gate.clear()
    models[0].calling.clear()
    stage.hand_over(stage.batches(1))
    assert models[0].calling.wait(TIMEOUT_S)
    assert stage.hand_over(stage.batches(1)) == {"a", "b", "c"}  # nobody knows yet
    stage.clock.turn(LONG_CALL_NS)
    stage.rounds.watch()
    wait_for(
        lambda: not (stage.lanes[1].backlog_rows or stage.lanes[2].backlog_rows),
        lambda: str(stage.sink.records),
    )
    models[0].gate.set()
    stage.settle()
    stage.require_all()


def test_what_is_on_its_way_is_bounded(stage, models):
    stage.prove()
    models[0].gate.clear()
    rows = SMALL_ROWS // 8  # of two partitions
    took_part = [bool(stage.hand_over(stage.batches(rows))) for _ in range(5)]
    assert took_part == [True, True, True, True, False]
    models[0].gate.set()
    stage.settle()
    stage.require_all()


@pytest.mark.parametrize("together", [False, True])
def test_a_model_costs_the_processor_that_its_calls_take_and_not_their_waits(models, together):
    def compute(matrix: np.ndarray) -> np.ndarray:
        until_s = time.thread_time() + 0.05
        while time.thread_time() < until_s:
            pass
        return matrix[:, 0] + 0.0

    def wait(matrix: np.ndarray) -> np.ndarray:
        threading.Event().wait(0.05)
        return matrix[:, 0] + 1.0

    computing, waiting, _ = models
    stage = Stage(models[:2])
    if together:
        stage.prove()
    computing.predict, waiting.predict = compute, wait  # type: ignore[method-assign]
    before = [_cpu_s(stage, lane.name) for lane in stage.lanes]
    stage.hand_over(stage.batches(2))
    stage.settle()
    spent = [_cpu_s(stage, lane.name) - old for lane, old in zip(stage.lanes, before, strict=True)]
    assert spent[0] >= 0.05 > 2 * spent[1]
    stage.close()


def _cpu_s(stage: Stage, model: str) -> float:
    found = stage.metrics.registry.get_sample_value(MODEL_CPU.name, {"model": model})
    return found or 0.0
