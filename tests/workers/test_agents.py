"""Faust agents: what waits survives their crashes, and the control topic is read from its start."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from streams.app import BatchChannel, make_app
from streams.embedded import EmbeddedKafka
from streams.settings import KafkaSettings, Settings
from tests.conftest import Topics
from workers.agents import Agents, OneThread
from workers.batching import BatchLimit, Mailbox, MicroBatch, RecordBatch

TIMEOUT_S = 30.0


class FakeLane:
    """What agents need of a lane; `gate` holds each call up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mailbox = Mailbox()
        self.limit = BatchLimit(100)
        self.paused = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: Exception | None = None
        self.worked: list[list[int]] = []

    def work(self, batch: MicroBatch) -> None:
        self.entered.set()
        assert self.gate.wait(TIMEOUT_S)
        if self.error is not None:
            raise self.error
        self.worked.append([o for part in batch.parts for o in part.offsets.tolist()])

    @property
    def offsets(self) -> list[int]:
        return [offset for offsets in self.worked for offset in offsets]


def batch(offset: int) -> RecordBatch:
    return RecordBatch("events", 0, np.array([offset]), np.zeros((1, 1)), 0, offset)


class Running:
    """Started agents, on a real broker for the control topic."""

    def __init__(self, kafka: EmbeddedKafka, topics: Topics) -> None:
        settings = Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": kafka.bootstrap_servers},
                "topics": {"control": topics("control", cleanup_policy="compact")},
                "models": [{"name": "a", "external": True}],
            }
        )
        self.lane, self.other = FakeLane("a"), FakeLane("b")
        self.failures: list[BaseException] = []
        self.agents = Agents(
            settings,
            topics.prefix + "worker",
            [self.lane, self.other],  # type: ignore[list-item]
            self.failures.append,
            lambda _model, _offset: None,
            lambda: None,
        )

    def deliver(self, *offsets: int) -> None:
        self.agents.deliver([(self.lane, [batch(offset)]) for offset in offsets])  # type: ignore[misc]

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not done():  # noqa: ASYNC110 -- threads do not set its events
                await asyncio.sleep(0.005)


@pytest.fixture
def running(kafka: EmbeddedKafka, topics: Topics) -> Callable:
    """Runs a coroutine function with started agents."""

    def run(scenario: Callable) -> None:
        async def main() -> None:
            running = Running(kafka, topics)
            await running.agents.start()
            try:
                await scenario(running)
                running.agents.check()
            finally:
                await running.agents.stop()

        asyncio.run(main())

    return run


def test_what_waits_while_a_model_is_busy_becomes_one_batch(running):
    async def scenario(running: Running) -> None:
        running.lane.gate.clear()
        running.deliver(1)
        await running.until(running.lane.entered.is_set)
        running.deliver(2, 3)
        running.deliver(4)
        running.lane.gate.set()
        await running.until(lambda: len(running.lane.offsets) == 4)
        assert running.lane.worked == [[1], [2, 3, 4]]

    running(scenario)


def test_a_busy_model_does_not_hold_up_the_loop_or_the_others(running):
    async def scenario(running: Running) -> None:
        running.lane.gate.clear()
        running.deliver(1)
        running.agents.deliver([(running.other, [batch(7)])])
        await running.until(lambda: running.other.offsets == [7])
        assert running.lane.offsets == []
        running.lane.gate.set()
        await running.until(lambda: running.lane.offsets == [1])

    running(scenario)


def test_an_agent_that_crashes_is_started_again_and_nothing_is_lost(running):
    async def scenario(running: Running) -> None:
        channel = running.agents.channels["a"]
        for round_ in range(2):
            first = round_ * 10
            running.deliver(first)
            await channel.queue.throw(RuntimeError("agent crash"))
            running.deliver(first + 1, first + 2)
            await running.until(lambda: len(running.lane.offsets) % 3 == 0 and running.lane.offsets)
            running.deliver(first + 3)
            await running.until(lambda first=first: first + 3 in running.lane.offsets)
            running.lane.worked[:] = [[o for o in running.lane.offsets if o != first + 3]]
        assert running.lane.offsets == [0, 1, 2, 10, 11, 12]
        assert running.failures == []

    running(scenario)


def test_answers_that_cannot_be_sent_end_the_process(running):
    async def scenario(running: Running) -> None:
        running.lane.error = OSError("no way out")
        running.deliver(1)
        await running.until(lambda: bool(running.failures))
        assert running.failures[0] is running.lane.error

    running(scenario)


def test_a_channel_gives_each_new_stream_what_the_last_one_left():
    async def main() -> None:
        channel = BatchChannel(make_app("test", KafkaSettings()))
        channel.put_nowait(1)
        first, second = channel.clone(is_iterator=True), channel.clone(is_iterator=True)
        channel.put_nowait(2)
        assert await first.queue.get() == 1
        assert await second.queue.get() == 2
        channel.put_nowait(3)
        channel.put_nowait(4)
        assert channel.waiting() == [3, 4]
        assert channel.waiting() == []

    asyncio.run(main())


def test_one_thread_works_in_order_and_hands_over_errors():
    thread = OneThread("worker")
    names, numbers = set(), []

    def work(number: int) -> int:
        names.add(threading.current_thread().name)
        numbers.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    futures = [thread.submit(work, number) for number in range(5)]
    assert futures[4].result(TIMEOUT_S) == 4
    assert isinstance(futures[3].exception(), ValueError)
    assert numbers == list(range(5))
    assert names == {"worker"}
