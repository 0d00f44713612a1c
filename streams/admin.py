"""Topics as the configuration wants them, and as the broker has them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from streams.client import (
    ANSWER_TIMEOUT_S,
    Watch,
    cluster_metadata,
    misconfigured,
    shared_properties,
    translated,
)
from streams.errors import AccessError
from streams.settings import KafkaSettings, TopicSettings

# A broker that needs longer for an administrative answer is in trouble.
TIMEOUT_S = 10.0
MS_PER_HOUR = 3_600_000

CleanupPolicy = Literal["delete", "compact"]


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """A topic the configuration names; `role` is its key there."""

    role: str
    name: str
    partitions: int
    cleanup: CleanupPolicy


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic the broker has."""

    name: str
    partitions: int
    replication_factor: int
    cleanup: str
    retention_ms: int


def wanted_topics(topics: TopicSettings, *, cascade: bool = False) -> list[WantedTopic]:
    """What `ensemble topics create` makes.

    Only inputs, predictions and with a `cascade` escalations must agree in partitions; what is
    published follows them, so that a score is on its event's partition. Health and control are
    small and of one order.
    """
    count = topics.partitions
    found = [WantedTopic("inputs", name, count, "delete") for name in topics.inputs]
    for role, name in (
        ("predictions", topics.predictions),
        ("scored", topics.scored),
        ("dead_letters", topics.dead_letters),
        ("corrections", topics.corrections),
        ("escalations", topics.escalations if cascade else ""),
    ):
        if name:
            found.append(WantedTopic(role, name, count, "delete"))
    found.append(WantedTopic("health", topics.health, 1, "delete"))
    found.append(WantedTopic("control", topics.control, 1, "compact"))
    return found


class TopicAdmin:
    """Asks the broker about topics, and makes them.

    Raises:
        ConfigurationError: the client does not accept a property.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._watch = Watch("administration")
        self._members: dict[str, Consumer] = {}
        properties = {**shared_properties(kafka), "error_cb": self._watch.on_error}
        try:
            self._client = AdminClient(dict[str, Any](properties))
        except (KafkaException, ValueError, TypeError) as error:
            raise misconfigured(error) from error

    def reach(self, timeout_s: float = ANSWER_TIMEOUT_S) -> int:
        """The number of brokers.

        Raises:
            BrokerError: none answers.
            AccessError: the cluster does not let this client in.
        """
        return len(self._metadata(timeout_s).brokers)

    def states(
        self, names: Iterable[str], timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[str, TopicState]:
        """Those of the named topics that exist.

        Raises:
            BrokerError: the broker does not answer.
            AccessError: it does not let this client in, or not see one of the topics.
        """
        found = self._metadata(timeout_s).topics
        names = list(dict.fromkeys(names))
        self.require_access([name for name in names if name not in found])
        present = [name for name in names if name in found]
        configs = self._configs(present, timeout_s)
        return {
            name: TopicState(
                name=name,
                partitions=len(found[name].partitions),
                replication_factor=min(
                    (len(p.replicas) for p in found[name].partitions.values()), default=0
                ),
                cleanup=configs[name]["cleanup.policy"].value,
                retention_ms=int(configs[name]["retention.ms"].value),
            )
            for name in present
        }

    def _member_of(self, group: str) -> Consumer:
        """Whoever asks for a group's positions; it never joins.

        The administrative way of asking ends the process with a segmentation fault when the
        group's coordinator is just moving (librdkafka 2.16).
        """
        if group not in self._members:
            properties = {**shared_properties(self._kafka), "error_cb": self._watch.on_error}
            self._members[group] = Consumer({**properties, "group.id": group})
        return self._members[group]

    def require_access(self, names: Sequence[str]) -> None:
        """Make sure that topics which seem to be missing are not merely hidden from this client.

        Raises:
            AccessError: one is.
        """
        if not names:
            return
        answers = self._client.describe_topics(
            TopicCollection(list(names)), request_timeout=ANSWER_TIMEOUT_S
        )
        for name, future in answers.items():
            try:
                future.result()
            except KafkaException as error:
                problem = translated(error, f"topic {name}")
                if isinstance(problem, AccessError):
                    raise problem from error

    def create(self, wanted: Sequence[WantedTopic], topics: TopicSettings) -> list[str]:
        """Create those that do not exist; the names of those made.

        Raises:
            BrokerError: the broker does not answer, or refuses one; the others are made.
        """
        if not wanted:
            return []
        requests = [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=topics.replication_factor,
                config=_properties(topic, topics),
            )
            for topic in wanted
        ]
        made, problems = [], []
        for name, future in self._client.create_topics(requests, request_timeout=TIMEOUT_S).items():
            try:
                future.result()
                made.append(name)
            except KafkaException as error:
                # Somebody else was faster, which is as good.
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    problems.append(translated(error, f"topic {name} cannot be created"))
        if problems:
            raise problems[0]
        return made

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics with all their records.

        Raises:
            BrokerError: the broker does not answer, or refuses one.
        """
        if not names:
            return
        for name, future in self._client.delete_topics(
            list(names), request_timeout=TIMEOUT_S
        ).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise translated(error, f"topic {name} cannot be deleted") from error

    def lag(self, group: str, names: Sequence[str], timeout_s: float = TIMEOUT_S) -> dict[str, int]:
        """Records of each topic that a group has not committed yet.

        Nothing is told of a topic of which the group has committed nothing.

        Raises:
            BrokerError: the broker does not answer, or refuses.
        """
        try:
            places = [
                TopicPartition(name, partition)
                for name, topic in self._metadata(timeout_s).topics.items()
                for partition in topic.partitions
                if name in names
            ]
            committed = {
                (p.topic, p.partition): p.offset
                for p in self._member_of(group).committed(places, timeout=timeout_s)
                if p.offset >= 0
            }
            if not committed:
                return {}
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            wanted = {TopicPartition(*place): latest for place in committed}
            ends = self._client.list_offsets(wanted, request_timeout=timeout_s)
            lag = dict.fromkeys((topic for topic, _ in committed), 0)
            for partition, future in ends.items():
                place = (partition.topic, partition.partition)
                lag[partition.topic] += max(0, future.result().offset - committed[place])
        except KafkaException as error:
            raise translated(error, f"the lag of {group} is not known") from error
        return lag

    def _metadata(self, timeout_s: float) -> Any:
        return cluster_metadata(self._client, self._watch, self._kafka, timeout_s)

    def _configs(self, names: Sequence[str], timeout_s: float) -> dict[str, dict[str, Any]]:
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found = {}
        for resource, future in self._client.describe_configs(
            resources, request_timeout=timeout_s
        ).items():
            try:
                found[resource.name] = future.result()
            except KafkaException as error:
                raise translated(error, f"topic {resource.name} cannot be described") from error
        return found


def _properties(topic: WantedTopic, topics: TopicSettings) -> dict[str, str]:
    if topic.cleanup == "compact":
        return {"cleanup.policy": "compact"}
    retention_ms = topics.retention_hours * MS_PER_HOUR
    return {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}


def differences(wanted: WantedTopic, state: TopicState, topics: TopicSettings) -> list[str]:
    """In what a topic is not as configured; only partitions and cleanup are mistakes.

    Retention and replication are often changed by whoever runs the cluster, so they are told
    and not judged.
    """
    found = []
    if state.partitions != wanted.partitions:
        found.append(f"{state.partitions} partitions, not {wanted.partitions}")
    if wanted.cleanup not in state.cleanup:
        found.append(f"cleanup.policy {state.cleanup}, not {wanted.cleanup}")
    if state.replication_factor != topics.replication_factor:
        found.append(f"{state.replication_factor} replicas, not {topics.replication_factor}")
    retention_ms = topics.retention_hours * MS_PER_HOUR
    if wanted.cleanup == "delete" and state.retention_ms != retention_ms:
        found.append(f"retention {state.retention_ms} ms, not {retention_ms}")
    return found
