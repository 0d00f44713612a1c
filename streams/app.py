"""Faust, reduced to what is used of it: agents on in-memory channels, and low-rate topics.

The data path goes through `streams.source` and `streams.sink`; a Faust app's own broker connection
carries the control topic, and is configured from the same librdkafka properties.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.types.auth import CredentialsT
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from streams.client import user_properties
from streams.errors import ConfigurationError
from streams.settings import KafkaSettings

_PLACE = "kafka.properties"
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
# A process that was killed counts as gone after this time.
_SESSION_TIMEOUT_S = 6.0


class _NoTables(TableManager):
    async def on_start(self) -> None:
        """Start without the second in which tables may yet be declared: there are none."""
        await self._update_channels()
        await self.recovery.start()


class _App(faust.App):
    def _create_directories(self) -> None:
        """Tables are in memory: there is nothing to keep on disk."""


def make_app(name: str, kafka: KafkaSettings) -> faust.App:
    """A Faust app named `name`, which is its consumer group too; not started.

    Raises:
        ConfigurationError: the security properties ask for what Faust's client cannot do.
    """
    return _App(
        name,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=credentials(user_properties(kafka.properties, _PLACE)),
        broker_session_timeout=_SESSION_TIMEOUT_S,
        broker_heartbeat_interval=1.0,
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        TableManager=_NoTables,
        topic_disable_leader=True,
        topic_allow_declare=False,
        reply_create_topic=False,
        # What nobody acknowledges is never committed: each start reads from the beginning.
        consumer_auto_offset_reset="earliest",
    )


def credentials(properties: Mapping[str, object]) -> CredentialsT | None:
    """Faust's form of librdkafka's security properties; None is plain text.

    Raises:
        ConfigurationError: there is no such form.
    """
    protocol = str(properties.get("security.protocol", "PLAINTEXT")).upper()
    if protocol not in _PROTOCOLS:
        raise ConfigurationError(
            f"{_PLACE}.security.protocol", f"{protocol!r}; expected one of {', '.join(_PROTOCOLS)}"
        )
    context = _ssl_context(properties) if protocol.endswith("SSL") else None
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    given = properties.get("sasl.mechanism", properties.get("sasl.mechanisms", "GSSAPI"))
    if given not in _MECHANISMS:
        raise ConfigurationError(
            f"{_PLACE}.sasl.mechanism",
            f"{given!r} is not supported for the control topic; "
            f"expected one of {', '.join(_MECHANISMS)}",
        )
    return faust.SASLCredentials(
        username=_required(properties, "sasl.username"),
        password=_required(properties, "sasl.password"),
        mechanism=str(given),
        ssl_context=context,
    )


def _required(properties: Mapping[str, object], name: str) -> str:
    if name not in properties:
        raise ConfigurationError(f"{_PLACE}.{name}", "is missing; the mechanism needs it")
    return str(properties[name])


def _ssl_context(properties: Mapping[str, object]) -> ssl.SSLContext:
    def text(name: str) -> str | None:
        value = properties.get(name)
        return None if value is None else str(value)

    try:
        context = ssl.create_default_context(cafile=text("ssl.ca.location"))
        certificate = text("ssl.certificate.location")
        if certificate is not None:
            context.load_cert_chain(certificate, text("ssl.key.location"), text("ssl.key.password"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{_PLACE}.ssl.ca.location", f"certificates cannot be read: {error}"
        ) from error
    if str(properties.get("ssl.endpoint.identification.algorithm", "https")) == "none":
        context.check_hostname = False
    if str(properties.get("enable.ssl.certificate.verification", True)).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class LastingChannel(faust.Channel[Any]):
    """An in-memory channel that keeps what waits in it while its agent is started again.

    A plain channel gives each new stream a queue of its own, and its queues are cleared when
    partitions of Kafka move; what is said here has nothing to do with those.
    """

    def __init__(self, app: faust.App, **options: Any) -> None:
        if options.get("queue") is None:
            always_on = FlowControlEvent(initially_suspended=False)
            options["queue"] = ThrowableQueue(flow_control=always_on)
        super().__init__(app, **options)

    def _clone_args(self) -> Mapping[str, Any]:
        return {**super()._clone_args(), "queue": self.queue}

    def put_nowait(self, message: object) -> None:
        """Add a message; on the event loop's thread only."""
        self.queue.put_nowait(message)
