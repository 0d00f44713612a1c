"""One Faust agent per model, and one for the control topic.

An agent stands for its model: Faust starts and supervises it, and what the control topic says
about the model reaches it on a channel of its own. The events do not pass through it: they go
straight to the model's thread (`Lane.serve`), because a message costs Faust and its event loop as
much as a model needs for a small batch.
"""

import asyncio
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import faust

from streams.app import LastingChannel, make_app
from streams.errors import BrokerError
from streams.records import ControlRecord, RecordError, decode_control
from streams.settings import Settings
from workers.lane import Lane

log = logging.getLogger(__name__)

# Leaving the control topic's group takes milliseconds while the broker is there.
_STOP_TIMEOUT_S = 2.0

# What the control topic says of a model, and the record's offset.
Order = tuple[ControlRecord, int]


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


class _ModelAgent:
    """The body of a model's agent; it outlives the agent's crashes."""

    def __init__(
        self,
        lane: Lane,
        fail: Callable[[BaseException], None],
        release: Callable[[str, int], None],
    ) -> None:
        self._lane = lane
        self._fail = fail
        self._release = release
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, stream: faust.StreamT[Order]) -> None:
        """See that the model's thread runs, and pass on what is said about the model."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._serve, name=f"model-{self._lane.name}", daemon=True
            ).start()
        async for record, offset in stream:
            self._obey(record, offset)

    def _serve(self) -> None:
        """On the model's thread, for as long as the process lives or its lane is open."""
        assert self._loop is not None, "the agent that starts the thread runs on it"
        try:
            self._lane.serve()
        except Exception as error:  # noqa: BLE001 -- it is the process's
            # Answers of this batch may be lost; only reading it again brings them back.
            self._loop.call_soon_threadsafe(self._fail, error)

    def _obey(self, record: ControlRecord, offset: int) -> None:
        lane = self._lane
        lane.marks.hear(offset)
        if lane.past.quarantined and not record.paused and offset > lane.past.heard:
            self._release(record.model, offset)
        if lane.paused != record.paused:
            lane.paused = record.paused
            log.info("%s: %s", record.model, "paused" if record.paused else "resumed")


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
        self._lanes = lanes
        self._bad_control = bad_control
        # Every process reads the whole topic, from the beginning, at each start. A group with a
        # name of its own has no predecessor's session to wait for, and as nothing is committed
        # the broker forgets it.
        self.app = make_app(f"{name}.control.{uuid.uuid4().hex[:8]}", settings.kafka)
        self.channels = {lane.name: LastingChannel(self.app) for lane in lanes}
        for lane in lanes:
            agent = _ModelAgent(lane, fail, release)
            self.app.agent(self.channels[lane.name], name=f"model.{lane.name}")(agent.run)
        topic = self.app.topic(
            settings.topics.control, value_type=bytes, value_serializer="raw", acks=False
        )
        self.app.agent(topic, name="control")(self._control)

    async def start(self) -> None:
        """Start all agents; returns when their models' threads wait for events.

        Raises:
            BrokerError: Faust does not get at the broker.
        """
        try:
            await self.app.start()
        except Exception as error:  # Faust lets through what its Kafka client raises
            raise BrokerError(f"Faust cannot start: {error}") from error

    async def stop(self) -> None:
        """Stop all agents, within seconds whatever the broker does; calls of models go on."""
        for lane in self._lanes:
            lane.close()
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

    async def _control(self, stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            self._pass_on(event.value, event.message.offset)

    def _pass_on(self, value: bytes | None, offset: int) -> None:
        if value is None:
            return  # the compacted topic's way to forget a model
        try:
            record = decode_control(value)
        except RecordError as error:
            log.warning("a control record cannot be read: %s", error)
            self._bad_control()
            return
        channel = self.channels.get(record.model)
        if channel is not None:
            channel.put_nowait((record, offset))
