"""A worker process: its parts, how they are joined, and how they end."""

import asyncio
import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from registry.bundle import load_manifest
from streams import signals
from streams.clock import SystemClock
from streams.errors import ConfigurationError, EnsembleError, RecycleError
from streams.events import EventDecoder
from streams.interpreter import settle
from streams.mapping import decoder_of
from streams.metrics import Metrics, serve
from streams.reader import require_readable
from streams.settings import Settings
from streams.sink import Sink
from workers.agents import Agents, OneThread
from workers.crew import Crew
from workers.feed import Feed
from workers.lane import Lane
from workers.marks import Witness
from workers.protocol import Model
from workers.publishing import Publisher
from workers.rounds import Rounds
from workers.watchdog import Watchdog

log = logging.getLogger(__name__)


def run_worker(
    settings: Settings,
    worker: str,
    slot: str,
    metrics: Metrics,
    *,
    metrics_port: int | None = None,
    wrap: Callable[[Model], Model] = lambda model: model,
    predecessor_exit: int | None = None,
) -> None:
    """Score events with the models of one `[[workers]]` table until SIGTERM or SIGINT.

    Args:
        settings: the configuration.
        worker: which table.
        slot: a name that stays the same over restarts and that no other process of this worker
            has; empty for a member that the consumer group forgets.
        metrics: where signals go.
        metrics_port: where they are shown, instead of the configured port.
        wrap: puts something in front of each model, a cache for example.
        predecessor_exit: how the last process of this slot ended, negative for a signal; None if
            nobody knows.

    Raises:
        ConfigurationError: there is no such worker, or a setting does not fit.
        BundleError: a model cannot be loaded.
        BrokerError: Kafka refuses; start again.
        FencedError: another process has this slot.
        RecycleError: start again: memory is full, or a model is to be tried once more.
    """
    table = next((table for table in settings.workers if table.name == worker), None)
    if table is None:
        known = ", ".join(table.name for table in settings.workers)
        raise ConfigurationError(f"workers.{worker}", f"no such worker; expected one of {known}")
    bundle = load_manifest(Path(settings.ensemble.bundle))
    wanted = [model for model in settings.models if model.name in table.models]
    schema = bundle.manifest.schema
    crew = Crew(settings, worker, slot, wanted, bundle, len(schema), predecessor_exit)
    try:
        decoder = decoder_of(schema, settings.event)
        process = WorkerProcess(
            settings, worker, slot, crew.load(wrap), decoder, metrics, crew.witness
        )
        port = settings.metrics.worker_port if metrics_port is None else metrics_port
        server = serve(metrics, settings.metrics.host, port, lambda: process.ready)
        settle()
        try:
            process.run()
        finally:
            server.close()
    finally:
        crew.witness.close()


class WorkerProcess:
    """Everything of one worker process but its metrics page.

    Args:
        settings: the configuration.
        worker: the name of its table there.
        slot: see `run_worker`.
        models: who answers; loaded and warm.
        decoder: from records to rows.
        metrics: where signals go.
        witness: where calls are marked, and what is known of the models.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        slot: str,
        models: Sequence[Model],
        decoder: EventDecoder,
        metrics: Metrics,
        witness: Witness,
    ) -> None:
        self.metrics = metrics
        self._settings = settings
        self._worker = worker
        self._slot = slot
        self._name = f"{settings.ensemble.name}.worker.{worker}.{slot or 'any'}"
        self._decoder = decoder
        self._clock = SystemClock()
        self._sink = Sink(settings.kafka)
        self._witness = witness
        alone = threading.Lock()
        self._acknowledged: deque[list[tuple[int, int]]] = deque()
        publisher = Publisher(
            settings.topics.predictions, self._sink, self._acknowledged.append, self.metrics
        )
        self._rounds = Rounds(publisher)
        self._lanes = [
            Lane(
                model,
                publisher,
                settings.worker.max_batch,
                witness.marks[model.name],
                witness.pasts[model.name],
                alone,
                self.metrics,
                self._clock,
            )
            for model in models
        ]
        self._feed: Feed | None = None
        self._stopping = threading.Event()
        self._asked = asyncio.Event()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None
        self._recycled: RecycleError | None = None

    @property
    def ready(self) -> bool:
        """Whether models are loaded and partitions are assigned."""
        return self._feed is not None and self._feed.ready

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, or until something fails; raises the latter."""
        self._report()
        try:
            self._check_topics()
            asyncio.run(self._main())
        finally:
            self._sink.close()
        if self._recycled is not None:
            raise self._recycled

    def _report(self) -> None:
        """Show what is known from former processes."""
        self.metrics.counter(signals.RECYCLES, self._worker).inc(self._witness.recycles)
        for model, past in self._witness.pasts.items():
            self.metrics.counter(signals.MODEL_CRASHES, model).inc(past.deaths)
            self.metrics.gauge(signals.MODEL_QUARANTINED, model).set(past.quarantined)

    def _check_topics(self) -> None:
        """Faust waits for a topic that does not exist, and says so to nobody."""
        topics = self._settings.topics
        reads = self._settings.cascade.read_by(
            [lane.name for lane in self._lanes], topics.inputs, topics.escalations
        )
        self._sink.require_partitions(topics.predictions, same=reads, others=[topics.control])
        require_readable(self._settings.kafka, topics.control, self._name)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        agents = Agents(
            self._settings,
            self._name,
            self._lanes,
            self._fail,
            self._release,
            self.metrics.counter(signals.BAD_CONTROL, self._worker).inc,
        )
        beat = asyncio.create_task(self._beat(agents))
        try:
            starting = asyncio.create_task(agents.start())
            asked = asyncio.create_task(self._asked.wait())
            await self._first(starting, asked)
            if not asked.done():
                rounds = loop.run_in_executor(OneThread("rounds"), self._rounds.serve)
                await self._first(rounds, self._feeding(loop))
        finally:
            self._stopping.set()
            beat.cancel()
            self._rounds.close()
            await agents.stop()

    def _feeding(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        self._feed = Feed(
            self._settings,
            self._worker,
            self._slot,
            self._decoder,
            self._lanes,
            self._rounds,
            self._acknowledged,
            self._sink,
            self.metrics,
            self._clock,
        )
        return loop.run_in_executor(OneThread("feed"), self._feed.run, self._stopping)

    async def _first(self, *futures: asyncio.Future[Any]) -> None:
        """Wait until one of them is done, or until something failed; raises what went wrong."""
        failed = asyncio.create_task(self._failed.wait())
        await asyncio.wait({*futures, failed}, return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        if self._failure is not None:
            raise self._failure
        for future in futures:
            if future.done():
                future.result()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._failed.set()

    def _release(self, model: str, heard: int) -> None:
        self._witness.release(model, heard)
        self._recycle(f"model {model} is to be tried once more")

    def _recycle(self, reason: str) -> None:
        """Finish what there is, and end in such a way that a supervisor starts the next process."""
        if self._stopping.is_set():
            return
        log.warning("asking for a fresh start: %s", reason)
        self._witness.recycle()
        self._recycled = RecycleError(reason)
        self._stopping.set()
        self._asked.set()

    def _stop(self, number: int) -> None:
        """The first signal asks; the second one ends the process as it would have anyway."""
        log.info("asked to stop by %s", signal.Signals(number).name)
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(each)
        self._stopping.set()
        self._asked.set()

    async def _beat(self, agents: Agents) -> None:
        """What must happen every fraction of a second, and shows that the loop is alive."""
        tuning = self._settings.worker
        watchdog = Watchdog(
            self._lanes, self._witness, tuning.hang_ms, tuning.max_memory_mb, self._recycle
        )
        try:
            while True:
                watchdog.look()
                agents.check()
                for lane in self._lanes:
                    self.metrics.gauge(signals.BACKLOG_ROWS, lane.name).set(lane.backlog_rows)
                await asyncio.sleep(watchdog.interval_s)
        except EnsembleError as error:
            self._fail(error)
        finally:
            watchdog.close()
