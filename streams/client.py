"""What every Kafka client here has in common: its properties, and what its errors mean.

Properties are librdkafka's own, under their own names. Ours come first, the user's on top; a few
names carry the product's promises (who a client is, when it commits) and are not the user's.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streams.errors import AccessError, BrokerError, ConfigurationError, FencedError
from streams.settings import KafkaSettings

log = logging.getLogger(__name__)

Properties = dict[str, object]

FILE_PREFIX = "file:"

# Who a client is, and when it commits: settings that would break what the product promises.
_RESERVED = frozenset(
    {"group.id", "group.instance.id", "transactional.id", "enable.auto.commit"}
    | {"enable.partition.eof", "bootstrap.servers", "metadata.broker.list"}
    | {"partition.assignment.strategy"}
)

_SHARED: Properties = {
    # A broker that comes back is found at once, and not after the default ten seconds.
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "socket.nagle.disable": True,
    # Partitions that were added are noticed after so long, and not after five minutes.
    "topic.metadata.refresh.interval.ms": 10_000,
    # By default a client that has lost all brokers exchanges them for new ones, without any
    # pause, and may go on waiting for the old ones for ever: a producer with what it was about to
    # send, a transaction for the coordinator of its group.
    "metadata.recovery.strategy": "none",
}

_FENCED = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 -- the client's own names
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)
# What a broker that restarts, or a group that finds itself anew, causes and the client heals.
_PASSING = frozenset(
    {
        KafkaError._PARTITION_EOF,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
    }
)
# The client would try refused credentials again for ever, and nobody would know.
_REJECTED = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError._SSL,  # noqa: SLF001
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_LOST_ERROR = "returned NULL without setting an exception"
# A first answer that takes longer is none: the error is there before anybody has lost patience.
ANSWER_TIMEOUT_S = 6.0
_NO_REASON = "no reason was given; a firewall, or another security.protocol?"
# How long after the brokers were away their absence explains what else is strange.
_AFTERMATH_S = 30.0
# How often, meanwhile, the client is asked what it has found out.
_LOOK_S = 1.0


def shared_properties(kafka: KafkaSettings) -> Properties:
    """What any client of this cluster needs, an admin client too.

    Raises:
        ConfigurationError: a property is reserved, or its file cannot be read.
    """
    return {
        **_SHARED,
        "logger": logging.getLogger("streams.kafka"),
        "bootstrap.servers": kafka.bootstrap_servers,
        **user_properties(kafka.properties, "kafka.properties"),
    }


def user_properties(properties: Mapping[str, object], place: str) -> Properties:
    """The user's properties, with `file:PATH` replaced by what the file holds.

    Raises:
        ConfigurationError: a property is reserved, or its file cannot be read.
    """
    result: Properties = {}
    for name, value in properties.items():
        if name in _RESERVED:
            raise ConfigurationError(
                f"{place}.{name}", "is set by this product; expected it to be left out"
            )
        result[name] = _from_file(value, f"{place}.{name}")
    return result


def _from_file(value: object, place: str) -> object:
    if not (isinstance(value, str) and value.startswith(FILE_PREFIX)):
        return value
    path = Path(value.removeprefix(FILE_PREFIX))
    try:
        # Editors and secret mounts end a file with a newline that is no part of the secret.
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(place, f"cannot read {path}: {error}") from error


def misconfigured(error: Exception) -> ConfigurationError:
    """What a client's constructor raises when it does not accept a property."""
    reason = error.args[0] if error.args else error
    text = reason.str() if isinstance(reason, KafkaError) else str(reason)
    return ConfigurationError("kafka", f"the Kafka client refuses its properties: {text}")


def is_passing(error: KafkaError) -> bool:
    """Whether the client gets over it by itself."""
    return not error.fatal() and error.code() in _PASSING


@contextmanager
def plain_errors() -> Iterator[None]:
    """Around calls within which a client hands things out: lets its fatal error be told.

    The client sets that one and goes on handing out log lines and acknowledgements, which Python
    takes for a fault of the callbacks' (`SystemError`, whose cause is the error).

    Raises:
        KafkaException: the client failed for good.
    """
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        if _LOST_ERROR in str(error):
            # A callback has cleared it.
            lost = "the client failed for good, and its reason was lost"
            raise KafkaException(KafkaError(KafkaError._FATAL, lost)) from None  # noqa: SLF001
        raise


def translated(error: KafkaException | KafkaError, what: str) -> BrokerError:
    """Our error for one of the client's."""
    reason = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(reason, KafkaError):
        return BrokerError(f"{what}: {reason}")
    if _is_fenced(reason):
        return FencedError(f"{what}: {reason.str()}; another process has this slot")
    if reason.code() in _REJECTED:
        return AccessError(f"{what}: {reason.str()}")
    return BrokerError(f"{what}: {reason.str()}")


def _is_fenced(error: KafkaError) -> bool:
    # A fatal error keeps the code of its cause to itself; the text tells.
    wrapped = error.code() == KafkaError._FATAL and "fenced" in error.str()  # noqa: SLF001
    return wrapped or error.code() in _FENCED


class Watch:
    """Listens to a client's background errors; `check` raises what will not pass.

    Args:
        what: the client, for messages.
        on_away: called when no broker answers any more.

    Attributes:
        latest: the last error that may pass, in the client's words.
    """

    def __init__(self, what: str, on_away: Callable[[], None] = lambda: None) -> None:
        self._what = what
        self._on_away = on_away
        self._failure: BrokerError | None = None
        self._away_s = -_AFTERMATH_S
        self.latest = ""

    def on_error(self, error: KafkaError) -> None:
        """The client's `error_cb`; also for whatever else has no caller to raise to."""
        if error.fatal() or _is_fenced(error) or error.code() in _REJECTED:
            self.fail(self.explained(error, self._what))
        else:
            if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 -- the client's name
                self._away_s = time.monotonic()
                self._on_away()
            else:
                self.latest = error.str()
            log.warning("%s: %s", self._what, error.str())

    def explained(self, error: KafkaError, what: str) -> BrokerError:
        """Our error for one of the client's, in the light of what happened before."""
        problem = translated(error, what)
        if isinstance(problem, FencedError) and time.monotonic() - self._away_s < _AFTERMATH_S:
            # A join whose answer was lost leaves a member behind, which fences its own client.
            return BrokerError(f"{what}: lost its place while no broker answered: {error.str()}")
        return problem

    def fail(self, failure: BrokerError) -> None:
        """Remember the first failure."""
        self._failure = self._failure or failure

    def check(self) -> None:
        """Raise the failure, if there was one; it stays."""
        if self._failure is not None:
            raise self._failure


def cluster_metadata(
    client: Producer | AdminClient,
    watch: Watch,
    kafka: KafkaSettings,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> Any:
    """Brokers and topics as the cluster tells them.

    Args:
        client: whom to ask; its `error_cb` is the watch's.
        watch: hears why nobody answers.
        kafka: where the cluster is.
        timeout_s: how long to wait.

    Raises:
        BrokerError: nobody answers in time; says why, as far as it is known.
        AccessError: the cluster does not let this client in.
    """
    give_up_s = time.monotonic() + timeout_s
    while True:
        left_s = give_up_s - time.monotonic()
        try:
            return client.list_topics(timeout=max(0.01, min(_LOOK_S, left_s)))
        except KafkaException as error:
            client.poll(0)
            watch.check()
            if left_s <= _LOOK_S or not is_passing(error.args[0]):
                why = watch.latest or _NO_REASON
                raise BrokerError(
                    f"no Kafka broker answers at {kafka.bootstrap_servers} "
                    f"within {timeout_s:g} s: {why}"
                ) from error
