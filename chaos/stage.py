"""The system under test: real brokers, a real Redis, and every process of `ensemble up`.

    with Stage(Plan(combiners=2)) as stage:
        with stage.load(2000):
            stage.kill("combiner-0")
        print(stage.report())

Everything is torn down at the end of the block, whatever fails.
"""

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.load import Acknowledged, Load, MakeEvent, good_event, name_of
from chaos.models import MOOD_VARIABLE
from chaos.plan import Plan, write_config
from chaos.processes import Processes
from chaos.proxy import Proxy
from chaos.reader import TIMEOUT_S, Reader, read_all, read_messages, wait_for
from chaos.verdict import Outcome, Timing, Verdict, judge, rungs, timing
from cli.configuration import load_settings
from cli.restarts import RestartPolicy
from cli.supervisor import Program, Supervisor
from cli.up import command, create_topics, fork_server, programs_of
from streams.embedded import EmbeddedCluster, EmbeddedRedis
from streams.embedded.broker import Listener
from streams.embedded.child import LOOPBACK, free_ports

ROOT = Path(__file__).parent.parent
# Behind the deadline: what a commit, a fetch and a reader may take.
SLACK_MS = 100


@dataclass(frozen=True, slots=True)
class Report:
    """What two readers saw: one that was there all the time, and one that read it all at the end.

    Attributes:
        events: how many the broker acknowledged.
        scored, dead: first outcomes of each kind.
        rungs: scores by fallback.
        during, after: what is wrong, as each reader saw it.
        timing: of the reader that was there.
    """

    events: int
    scored: int
    dead: int
    rungs: Counter[str]
    during: Verdict
    after: Verdict
    timing: Timing

    @property
    def clean(self) -> bool:
        """Whether both readers saw exactly one outcome for each event, in order."""
        return self.during.clean and self.after.clean

    def __str__(self) -> str:
        wrong = "0 lost, 0 duplicates" if self.clean else f"{self.during} / {self.after}"
        return f"{self.events} events: {wrong}"


class Stage(Processes, AbstractContextManager["Stage"]):
    """Runs a plan.

    Attributes:
        plan: what runs.
        policy: how patient the supervisor is; None as in `ensemble up`.
        settings: of the processes.
        config: the file they read.
        kafka: the brokers; `kafka.brokers[0].kill()` and the like.
        cache: the Redis, or None.
        servers: the brokers as the world outside sees them, without a proxy.
        proxies: one for each broker, with `kafka_proxy`.
        redis_proxy: with `redis_proxy`, else None.
        reader: reads outcomes from the start on.
        acknowledged: the events that the broker has.
    """

    def __init__(self, plan: Plan | None = None, policy: RestartPolicy | None = None) -> None:
        super().__init__()
        self.plan = plan or Plan()
        self._policy = policy
        self.acknowledged = Acknowledged()
        self.proxies: list[Proxy] = []
        self.redis_proxy: Proxy | None = None
        self.cache: EmbeddedRedis | None = None
        self.complaint = ""  # why a report did not wait for everything
        self._sent = 0
        self._warm_ns: int | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._build()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- building ----------------------------------------------------------------------------

    def _build(self) -> None:
        enter = self._stack.enter_context
        self.directory = Path(enter(tempfile.TemporaryDirectory(prefix="chaos-")))
        through = self._start_kafka()
        self.config = write_config(
            self.plan, self.directory, through, self._start_redis(), free_ports(3)
        )
        self.settings = load_settings(self.config)
        create_topics(self.settings)
        topics = self.settings.topics
        self.outputs = [topics.scored, topics.dead_letters]
        self.reader = Reader(self.servers, self.outputs, self.plan.partitions, whole=False)
        self._stack.callback(self.reader.close)
        logs = self.directory / "logs"
        logs.mkdir()
        self._mood = self.directory / "mood"
        self._environment = {"PYTHONPATH": str(ROOT), MOOD_VARIABLE: str(self._mood)}
        self._fault = self.directory / "faulty"
        self._fault.touch()
        self._programs = [
            self._prepared(program) for program in programs_of(self.settings, self.config, logs)
        ]
        forks = fork_server(self.settings, self._environment)
        self.supervisor = enter(
            Supervisor(self._programs, self._policy, forks=forks, on_change=self._on_change)
        )
        # One that was stopped with SIGSTOP hears no SIGTERM.
        self._stack.callback(self._resume_all)

    def _start_kafka(self) -> str:
        """Start brokers, with proxies before them if wanted; where the processes find them."""
        plan = self.plan
        listeners = []
        if plan.kafka_proxy:
            behind = free_ports(plan.brokers)
            self.proxies = [self._stack.enter_context(Proxy(port, kafka=True)) for port in behind]
            advertised = [proxy.port for proxy in self.proxies]
            listeners = [Listener("PROXIED", behind, advertised)]
        self.kafka = self._stack.enter_context(
            EmbeddedCluster(
                self.directory / "kafka",
                plan.brokers,
                properties=plan.broker_properties,
                listeners=listeners,
            )
        )
        self.servers = self.kafka.bootstrap_servers
        if not plan.kafka_proxy:
            return self.servers
        return ",".join(f"{LOOPBACK}:{proxy.port}" for proxy in self.proxies)

    def _start_redis(self) -> str:
        if not self.plan.redis:
            return "memory://"
        self.cache = self._stack.enter_context(EmbeddedRedis(self.directory / "redis"))
        if not self.plan.redis_proxy:
            return self.cache.url
        self.redis_proxy = self._stack.enter_context(Proxy(self.cache.port))
        return f"redis://{LOOPBACK}:{self.redis_proxy.port}/0"

    def _prepared(self, program: Program) -> Program:
        """With this package on the path, and inside the wrapper where the plan says so."""
        ours = program.command
        if program.name in self.plan.wrapped:
            start = len(command())
            assert list(ours[:start]) == command(), "the command line of `ensemble` has changed"
            wrapper = [ours[0], "-P", "-m", "chaos.wrapper", "--while", str(self._fault)]
            wrapper += self.plan.wrapped[program.name]
            ours = [*wrapper, "--", *ours[start:]]
        return replace(program, command=ours, environment=self._environment)

    def mood(self, name: str) -> None:
        """How `chaos.models.moody` behaves from now on; see there. Empty is well."""
        self._mood.write_text(name, encoding="ascii")

    # -- events and outcomes -----------------------------------------------------------------

    @contextmanager
    def load(self, rate_per_s: float, make: MakeEvent = good_event) -> Iterator[Load]:
        """Send events at this rate within the block; all are acknowledged behind it."""
        topic = self.settings.topics.inputs[0]
        load = Load(
            self.servers,
            topic,
            self.plan.partitions,
            rate_per_s,
            self.acknowledged,
            make,
            self._sent,
        )
        try:
            yield load
        finally:
            load.close()
            self._sent = load.number

    def rest(self, seconds: float) -> None:
        """Let time pass: the length of a fault is not a condition that one could await."""
        threading.Event().wait(seconds)

    def await_flow(
        self,
        within_ms: float = 0,
        timeout_s: float = TIMEOUT_S,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until an outcome of an event sent from now on was read (in less than so long).

        With `within_ms` the system counts as warm afterwards: see `timing`.
        """
        now_ns = time.monotonic_ns()
        sent, limit_ns = self.acknowledged.sent_ns, within_ms * 1e6
        seen = len(self.reader.outcomes)

        def reached() -> bool:
            nonlocal seen
            meanwhile()
            fresh = self.reader.outcomes[seen:]
            seen += len(fresh)
            return any(
                (at := sent.get(outcome.source, 0)) > now_ns
                and (not limit_ns or outcome.read_ns - at < limit_ns)
                for outcome in fresh
            )

        wait_for(reached, self._progress, timeout_s)
        if within_ms and self._warm_ns is None:
            self._warm_ns = time.monotonic_ns()

    def await_rung(self, rung: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until an outcome of this rung was read from now on."""
        seen = len(self.reader.outcomes)
        wait_for(
            lambda: any(outcome.rung == rung for outcome in self.reader.outcomes[seen:]),
            self._progress,
            timeout_s,
        )

    def await_outcomes(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until every acknowledged event has an outcome; for when no more are sent.

        Raises:
            AssertionError: some have none in time; says where.
        """
        wait_for(
            lambda: self.acknowledged.sent_ns.keys() <= self.reader.sources,
            self._progress,
            timeout_s,
        )

    def copy_logs(self, directory: Path) -> None:
        """What processes and brokers have written so far, and every outcome with its place."""
        shutil.copytree(self.directory / "logs", directory, dirs_exist_ok=True)
        for broker in self.kafka.brokers:
            shutil.copy(broker.log_path, directory / f"broker-{broker.node_id}.log")
        with (directory / "outcomes.txt").open("w", encoding="utf-8") as file:
            file.writelines(
                f"{each.source} {each.place} {each.read_ns} {each.content}\n"
                for each in self.reader.outcomes
            )

    def _progress(self) -> str:
        missing = sorted(self.acknowledged.sent_ns.keys() - self.reader.sources)
        where = dict(Counter(source.rpartition("/")[0] for source in missing))
        states = {name: status.state for name, status in self.states().items()}
        logs = "\n".join(f"-- {name}\n{self.log(name, 1500)}" for name in self.names())
        return (
            f"{len(self.reader.outcomes)} outcomes of {len(self.acknowledged.sent_ns)} events; "
            f"missing {where}, first {missing[:3]}; {states}\n{logs}"
        )

    def report(self, *, wait: Callable[[], None] | None = None) -> Report:
        """Wait for what is on its way, and judge; an event that never comes is counted as lost."""
        acknowledged = self.acknowledged
        try:
            (wait or self.await_outcomes)()
        except AssertionError as error:
            self.complaint = str(error)
        during = list(self.reader.outcomes)
        untold = self.reader.sources - acknowledged.sent_ns.keys()
        if acknowledged.unplaced or acknowledged.doubtful or untold:
            acknowledged.place(self._written())
        after = read_all(self.servers, self.outputs, self.plan.partitions, whole=False)
        first = {outcome.source: outcome for outcome in reversed(during)}
        found = rungs(first.values())
        dead = found.pop("dead letter", 0)
        return Report(
            len(acknowledged.events),
            found.total(),
            dead,
            found,
            judge(acknowledged.events, during),
            judge(acknowledged.events, after),
            self.timing(during),
        )

    def _written(self) -> dict[str, str]:
        """All events of the input topic: event → name."""
        topic = self.settings.topics.inputs[0]
        return {
            f"{topic}/{message.partition()}/{message.offset()}": name_of(message)
            for message in read_messages(self.servers, [topic], self.plan.partitions)
        }

    def timing(self, outcomes: list[Outcome]) -> Timing:
        """How long these took; late is what came more than `SLACK_MS` behind the deadline.

        Events that were sent before the system was warm do not count: a broker that has just
        been made takes its time for the first transaction of a name.
        """
        limit_ms = self.settings.combiner.deadline_ms + SLACK_MS
        warm_ns = self._warm_ns or 0
        sent = {source: at for source, at in self.acknowledged.sent_ns.items() if at >= warm_ns}
        return timing(sent, [o for o in outcomes if o.read_ns >= warm_ns], limit_ms)
