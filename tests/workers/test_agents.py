"""Faust agents: each starts its model's thread once, whatever becomes of it, and hears control."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from streams.app import LastingChannel, make_app
from streams.embedded import EmbeddedKafka
from streams.records import ControlRecord
from streams.settings import KafkaSettings, Settings
from tests.conftest import Topics
from workers.agents import Agents, OneThread
from workers.suspicion import Past

TIMEOUT_S = 30.0


class FakeMarks:
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def hear(self, offset: int) -> None:
        self.heard.append(offset)


class FakeLane:
    """What agents need of a lane; its thread serves until it is closed, or fails."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.marks = FakeMarks()
        self.past = Past("")
        self.threads: list[str] = []
        self.error: Exception | None = None
        self.serving = threading.Event()
        self.over = threading.Event()

    def serve(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.serving.set()
        assert self.over.wait(TIMEOUT_S)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.over.set()


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
        self.released: list[tuple[str, int]] = []
        self.agents = Agents(
            settings,
            topics.prefix + "worker",
            [self.lane, self.other],  # type: ignore[list-item]
            self.failures.append,
            lambda model, offset: self.released.append((model, offset)),
            lambda: None,
        )

    def say(self, model: str, offset: int, *, paused: bool) -> None:
        self.agents.channels[model].put_nowait((ControlRecord(model, paused=paused), offset))

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


def test_each_model_has_a_thread_of_its_own(running):
    async def scenario(running: Running) -> None:
        await running.until(running.lane.serving.is_set)
        await running.until(running.other.serving.is_set)
        assert running.lane.threads == ["model-a"]
        assert running.other.threads == ["model-b"]

    running(scenario)


def test_an_agent_that_crashes_is_started_again_and_nothing_is_lost(running):
    async def scenario(running: Running) -> None:
        channel = running.agents.channels["a"]
        for round_ in range(2):
            first = round_ * 10
            running.say("a", first, paused=True)
            await channel.queue.throw(RuntimeError("agent crash"))
            running.say("a", first + 1, paused=False)
            running.say("a", first + 2, paused=True)
            await running.until(lambda first=first: first + 2 in running.lane.marks.heard)
        assert running.lane.marks.heard == [0, 1, 2, 10, 11, 12]
        assert running.lane.paused
        assert not running.other.paused
        assert running.failures == []
        # Its thread went on all the while.
        assert running.lane.threads == ["model-a"]

    running(scenario)


def test_a_quarantined_model_is_released_by_who_says_so_later(running):
    async def scenario(running: Running) -> None:
        running.lane.past = Past("", quarantined=True, heard=4)
        for offset, paused in ((4, False), (5, True), (6, False)):
            running.say("a", offset, paused=paused)
        await running.until(lambda: running.lane.marks.heard == [4, 5, 6])
        assert running.released == [("a", 6)]

    running(scenario)


def test_answers_that_cannot_be_sent_end_the_process(running):
    async def scenario(running: Running) -> None:
        running.lane.error = OSError("no way out")
        running.lane.over.set()
        await running.until(lambda: bool(running.failures))
        assert running.failures[0] is running.lane.error

    running(scenario)


def test_a_channel_gives_each_new_stream_what_the_last_one_left():
    async def main() -> None:
        channel = LastingChannel(make_app("test", KafkaSettings()))
        channel.put_nowait(1)
        first, second = channel.clone(is_iterator=True), channel.clone(is_iterator=True)
        channel.put_nowait(2)
        assert await first.queue.get() == 1
        assert await second.queue.get() == 2

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
