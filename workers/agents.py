"""One Faust agent per model, and one for the control topic."""

import asyncio
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import faust

from streams.app import BatchChannel, make_app
from streams.errors import BrokerError
from streams.records import RecordError, decode_control
from streams.settings import Settings
from workers.batching import RecordBatch
from workers.lane import Lane

log = logging.getLogger(__name__)

# Leaving the control topic's group takes milliseconds while the broker is there.
_STOP_TIMEOUT_S = 2.0

# What one fetch brought for a model: Faust's price is for each message, so it is one.
Delivery = tuple[Lane, Sequence[RecordBatch]]


class OneThread(Executor):
    """An executor with one daemon thread: a model that never returns does not keep the process.

    The standard one is waited for when the interpreter ends.
    """

    def __init__(self, name: str) -> None:
        self._inbox: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn` on the thread, after what was submitted before."""
        future: Future[Any] = Future()
        self._inbox.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _run(self) -> None:
        while True:
            future, call = self._inbox.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 -- it is the caller's
                    future.set_exception(error)


class _Scorer:
    """The body of a model's agent; it outlives the agent's crashes."""

    def __init__(
        self, lane: Lane, channel: BatchChannel, fail: Callable[[BaseException], None]
    ) -> None:
        self._lane = lane
        self._channel = channel
        self._fail = fail
        self._thread = OneThread(f"model-{lane.name}")
        self._running: asyncio.Future[None] | None = None

    async def run(self, stream: faust.StreamT[Sequence[RecordBatch]]) -> None:
        """Score whatever comes, for as long as the agent runs."""
        await self._work_off()
        async for batches in stream:
            self._put(batches)
            await self._work_off()

    def _put(self, batches: Sequence[RecordBatch]) -> None:
        for batch in batches:
            self._lane.mailbox.put(batch)

    async def _work_off(self) -> None:
        """One micro-batch after the other, each of all that waits by then."""
        lane = self._lane
        while True:
            for batches in self._channel.waiting():
                self._put(batches)
            if self._running is None:
                if not len(lane.mailbox):
                    return
                work = lane.mailbox.take(lane.limit.rows)
                loop = asyncio.get_running_loop()
                self._running = loop.run_in_executor(self._thread, lane.work, work)
            try:
                # An agent that is stopped here leaves the call to the one that follows it.
                await asyncio.shield(self._running)
            except Exception as error:
                # Answers of this batch may be lost; only reading it again brings them back.
                self._fail(error)
                raise
            self._running = None


class Agents:
    """The Faust side of a worker process.

    Args:
        settings: the configuration.
        name: of the process, for the control topic's consumer group.
        lanes: one for each model.
        fail: called with what ends the process.
        release: called with a quarantined model that somebody asked for, and the offset of the
            record that did.
        bad_control: called for each control record that cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        lanes: Sequence[Lane],
        fail: Callable[[BaseException], None],
        release: Callable[[str, int], None],
        bad_control: Callable[[], None],
    ) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._release = release
        self._bad_control = bad_control
        # Every process reads the whole topic, from the beginning, at each start. A group with a
        # name of its own has no predecessor's session to wait for, and as nothing is committed
        # the broker forgets it.
        self.app = make_app(f"{name}.control.{uuid.uuid4().hex[:8]}", settings.kafka)
        self.channels = {lane.name: BatchChannel(self.app) for lane in lanes}
        for lane in lanes:
            channel = self.channels[lane.name]
            scorer = _Scorer(lane, channel, fail)
            self.app.agent(channel, name=f"model.{lane.name}")(scorer.run)
        topic = self.app.topic(
            settings.topics.control, value_type=bytes, value_serializer="raw", acks=False
        )
        self.app.agent(topic, name="control")(self._control)

    async def start(self) -> None:
        """Start all agents; returns when they wait for batches.

        Raises:
            BrokerError: Faust does not get at the broker.
        """
        try:
            await self.app.start()
        except Exception as error:  # Faust lets through what its Kafka client raises
            raise BrokerError(f"Faust cannot start: {error}") from error

    async def stop(self) -> None:
        """Stop all agents, within seconds whatever the broker does."""
        try:
            await asyncio.wait_for(self.app.stop(), _STOP_TIMEOUT_S)
        except TimeoutError:
            log.warning("Faust did not stop within %g s; leaving it", _STOP_TIMEOUT_S)

    def check(self) -> None:
        """Raise if Faust has given up.

        Raises:
            BrokerError: it has.
        """
        if self.app.crashed:
            raise BrokerError(f"Faust gave up: {self.app.crash_reason!r}")

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Hand batches to the agents; on the event loop's thread."""
        for lane, batches in deliveries:
            self.channels[lane.name].put_nowait(batches)

    async def _control(self, stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            self._obey(event.value, event.message.offset)

    def _obey(self, value: bytes | None, offset: int) -> None:
        if value is None:
            return  # the compacted topic's way to forget a model
        try:
            record = decode_control(value)
        except RecordError as error:
            log.warning("a control record cannot be read: %s", error)
            self._bad_control()
            return
        lane = self._lanes.get(record.model)
        if lane is None:
            return
        lane.marks.hear(offset)
        if lane.past.quarantined and not record.paused and offset > lane.past.heard:
            self._release(record.model, offset)
        if lane.paused != record.paused:
            lane.paused = record.paused
            log.info("%s: %s", record.model, "paused" if record.paused else "resumed")
