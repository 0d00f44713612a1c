"""A TCP proxy that breaks what goes through it, switchable at any time from any thread.

It runs its own event loop on its own thread. Between a Kafka client and a broker it can also read
the frames that pass and treat one API alone, in one direction: a reply to EndTxn that never comes
is a fault that no cut cable brings about for sure.

    with Proxy(target_port=broker.port) as proxy:
        proxy.set(Toxics(latency_ms=200))
        proxy.set(Toxics(replies={END_TXN: Treatment("swallow")}))
        proxy.cut()
        proxy.heal()
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

LOOPBACK: Final = "127.0.0.1"

# Kafka's numbers of its APIs.
PRODUCE: Final = 0
FETCH: Final = 1
METADATA: Final = 3
OFFSET_COMMIT: Final = 8
HEARTBEAT: Final = 12
INIT_PRODUCER_ID: Final = 22
ADD_PARTITIONS_TO_TXN: Final = 24
ADD_OFFSETS_TO_TXN: Final = 25
END_TXN: Final = 26
TXN_OFFSET_COMMIT: Final = 28

_CHUNK_BYTES = 65_536
# What may be on its way in one direction: more than any window of a loopback connection.
_IN_FLIGHT = 256
_LENGTH = struct.Struct(">i")
_REQUEST_HEAD = struct.Struct(">hhi")  # API, its version, correlation id
# Zero seconds of lingering: closing sends a reset.
_RESET = struct.pack("ii", 1, 0)

T = TypeVar("T")
OnRequest = Callable[[int, int, bytes], None]


@dataclass(frozen=True, slots=True)
class Treatment:
    """What happens to the messages of one API.

    Attributes:
        kind: `swallow`: they never arrive; `delay`: they, and what follows them on their
            connection, arrive `ms` later; `cut`: they never arrive, and their connection is reset.
        ms: of a delay.
        times: to so many messages from `Proxy.set` on; 0 is to all.
    """

    kind: Literal["swallow", "delay", "cut"]
    ms: float = 0.0
    times: int = 0


@dataclass(frozen=True, slots=True)
class Toxics:
    """What is wrong with the way; the defaults are a way that is well.

    Attributes:
        refuse: new connections are refused.
        hang: connections are accepted and stay open, and nothing passes.
        latency_ms: added to each direction.
        jitter_ms: at most so much more, evenly drawn; order is kept.
        bytes_per_s: of each direction of a connection; 0 is no limit.
        requests: Kafka's API -> what happens to its requests.
        replies: Kafka's API -> what happens to its replies.
    """

    refuse: bool = False
    hang: bool = False
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: float = 0.0
    requests: Mapping[int, Treatment] = field(default_factory=dict)
    replies: Mapping[int, Treatment] = field(default_factory=dict)


HEALTHY: Final = Toxics()


@dataclass(slots=True, eq=False)
class _Link:
    """A connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    # Kafka: correlation id -> API of requests that were not answered yet.
    asked: dict[int, int] = field(default_factory=dict)
    # Half open: the client's end stays, and nobody is behind it any more.
    orphaned: bool = False


class Proxy:
    """Listens on a port of the loopback address and passes everything on to another one.

    Args:
        target_port: where to pass it on; may be set later.
        port: where to listen; 0 takes a free one, which stays the same from then on.
        kafka: whether what passes are Kafka's frames, in plain text.
        on_request: called on the proxy's thread with the API, its version and the whole request
            behind its length; with `kafka` only.
        seed: of the jitter.

    Attributes:
        seen: Kafka's API -> requests that came.
        treated: Kafka's API -> messages that a treatment was applied to.
        on_request: as given; may be set at any time.
    """

    def __init__(
        self,
        target_port: int = 0,
        *,
        port: int = 0,
        kafka: bool = False,
        on_request: OnRequest | None = None,
        seed: int = 0,
    ) -> None:
        self.target_port = target_port
        self.port = port
        self.seen: Counter[int] = Counter()
        self.treated: Counter[int] = Counter()
        self._treated_since: Counter[int] = Counter()  # the last `set`
        self._kafka = kafka
        self.on_request = on_request
        self._chance = random.Random(seed)
        self._toxics = HEALTHY
        self._links: set[_Link] = set()
        self._ways: set[asyncio.Task[None]] = set()  # one for each connection
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._well: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    # -- from any thread ---------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many pass through just now."""
        return len(self._links)

    def set(self, toxics: Toxics) -> None:
        """From now on the way is like this; connections stay."""
        assert self._kafka or not (toxics.requests or toxics.replies), "needs `kafka`"
        self._call(self._set(toxics))

    def heal(self) -> None:
        """From now on nothing is wrong any more."""
        self.set(HEALTHY)

    def cut(self) -> None:
        """End all connections with a reset (RST) at both ends; new ones are welcome."""
        self._call(self._cut())

    def half_open(self) -> None:
        """The server forgets all connections, and no client hears of it; new ones are welcome."""
        self._call(self._orphan())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # -- on the proxy's thread ---------------------------------------------------------------

    async def _open(self) -> None:
        self._well = asyncio.Event()
        self._well.set()
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._welcome, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _set(self, toxics: Toxics) -> None:
        self._toxics = toxics
        self._treated_since.clear()
        assert self._well is not None
        if toxics.hang:
            self._well.clear()
        else:
            self._well.set()
        if toxics.refuse and self._server is not None:
            self._server.close()
            self._server = None
        elif not toxics.refuse and self._server is None:
            await self._listen()

    async def _cut(self) -> None:
        for link in list(self._links):
            _reset(link.client)
            _reset(link.server)

    async def _orphan(self) -> None:
        for link in self._links:
            link.orphaned = True
            _reset(link.server)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        # One that the loop is just accepting is not ours yet; cancelled, it would stay open.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for way in self._ways:
                way.cancel()
            await asyncio.wait(others)

    def _welcome(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        way = self._loop.create_task(self._accept(reader, client))
        self._ways.add(way)

        def ended(_: object) -> None:
            self._ways.discard(way)
            client.close()

        way.add_done_callback(ended)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        assert self._well is not None
        await self._well.wait()
        try:
            answers, server = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:
            _reset(client)  # as near to a refusal as one gets after having accepted
            return
        link = _Link(client, server)
        self._links.add(link)
        ways = [
            asyncio.create_task(self._pass(link, reader, server, self._request)),
            asyncio.create_task(self._pass(link, answers, client, self._reply)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if link.orphaned:
                await ways[0]  # the client may talk into the void for as long as it likes
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._links.discard(link)
            client.close()
            server.close()

    async def _pass(
        self,
        link: _Link,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        treat: Callable[[_Link, bytes], Treatment | None],
    ) -> None:
        """Pass one direction on until one end closes."""
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        delivering = asyncio.create_task(self._deliver(link, on_its_way, sink))
        reading = asyncio.create_task(self._read(link, source, on_its_way, treat))
        try:
            await asyncio.wait({delivering, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await delivering
        finally:
            delivering.cancel()
            reading.cancel()
            await asyncio.gather(delivering, reading, return_exceptions=True)

    async def _read(
        self,
        link: _Link,
        source: asyncio.StreamReader,
        on_its_way: asyncio.Queue[tuple[float, bytes]],
        treat: Callable[[_Link, bytes], Treatment | None],
    ) -> None:
        due = 0.0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while piece := await (_frame(source) if self._kafka else source.read(_CHUNK_BYTES)):
                treatment = treat(link, piece) if self._kafka else None
                extra_s = 0.0
                match treatment:
                    case Treatment("delay", ms):
                        extra_s = ms / 1000
                    case Treatment("swallow"):
                        continue
                    case Treatment("cut"):
                        _reset(link.client)
                        _reset(link.server)
                        return
                due = max(due, self._loop.time() + self._latency_s() + extra_s)
                await on_its_way.put((due, piece))
        await on_its_way.put((due, b""))

    async def _deliver(
        self,
        link: _Link,
        on_its_way: asyncio.Queue[tuple[float, bytes]],
        sink: asyncio.StreamWriter,
    ) -> None:
        assert self._well is not None
        with contextlib.suppress(OSError):
            while True:
                due, piece = await on_its_way.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._well.wait()
                if not piece:
                    return
                if self._toxics.bytes_per_s:
                    await asyncio.sleep(len(piece) / self._toxics.bytes_per_s)
                if not link.orphaned:
                    sink.write(piece)
                    await sink.drain()

    def _latency_s(self) -> float:
        toxics = self._toxics
        if not toxics.latency_ms and not toxics.jitter_ms:
            return 0.0
        return (toxics.latency_ms + self._chance.uniform(0.0, toxics.jitter_ms)) / 1000

    # -- Kafka's frames ----------------------------------------------------------------------

    def _request(self, link: _Link, frame: bytes) -> Treatment | None:
        api, version, correlation = _REQUEST_HEAD.unpack_from(frame, _LENGTH.size)
        self.seen[api] += 1
        link.asked[correlation] = api
        if self.on_request is not None:
            self.on_request(api, version, frame[_LENGTH.size :])
        return self._due(api, self._toxics.requests.get(api))

    def _reply(self, link: _Link, frame: bytes) -> Treatment | None:
        (correlation,) = _LENGTH.unpack_from(frame, _LENGTH.size)
        api = link.asked.pop(correlation, -1)
        return self._due(api, self._toxics.replies.get(api))

    def _due(self, api: int, treatment: Treatment | None) -> Treatment | None:
        if treatment is None:
            return None
        if treatment.times and self._treated_since[api] >= treatment.times:
            return None
        self._treated_since[api] += 1
        self.treated[api] += 1
        return treatment


async def _frame(source: asyncio.StreamReader) -> bytes:
    """One of Kafka's frames with its length; empty at the end."""
    head = await source.read(1)
    if not head:
        return b""
    head += await source.readexactly(_LENGTH.size - 1)
    return head + await source.readexactly(_LENGTH.unpack(head)[0])


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, and throw away what was not sent."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
