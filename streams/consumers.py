"""Librdkafka properties of consumers: ours, and the user's on top."""

from streams.client import Properties, shared_properties, user_properties
from streams.settings import KafkaSettings

# Of a reader that names none.
DEFAULT_PACE_MS = 5

_DEFAULTS: Properties = {
    # Static membership gives partitions back within 0.2 s of a crash with the classic protocol,
    # and after a minute with the new one.
    "group.protocol": "classic",
    # Joins need equal partition numbers of all topics in one process.
    "partition.assignment.strategy": "range",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 500,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    # A lone record is handed over at once. A fetch may have left without a partition that was at
    # rest, and what comes there waits for its end.
    "fetch.wait.max.ms": 20,
    "fetch.min.bytes": 1,
    # With so many records in its queue, of all partitions together, the client asks for no more,
    # and looks again after the pace: what comes in a stream is handed over in handfuls, and a
    # reader that is slow has one fetch in memory and not a queue of 64 MB for each partition. Not
    # one: a lone event would delay the answers to it by the pace.
    "queued.min.messages": 2,
    # Of each partition. No less: of batches that are larger a broker gives one, of the first
    # partition in the request, and that is the same one until it has been read to its end.
    "max.partition.fetch.bytes": 1_048_576,
    "fetch.error.backoff.ms": 50,
    "queued.max.messages.kbytes": 65_536,
}
# Where the broker says it: `group.consumer.session.timeout.ms`, as it comes.
_BROKERS_SESSION_MS = 45_000
# What the new group protocol leaves to the broker, and objects to.
_CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")


def consumer_config(
    kafka: KafkaSettings, group: str, instance: str = "", pace_ms: int = DEFAULT_PACE_MS
) -> Properties:
    """Librdkafka properties of a consumer.

    Args:
        kafka: the cluster, and the user's properties, which win over ours.
        group: the consumer group.
        instance: a name that stays over restarts makes a static member; empty a dynamic one.
        pace_ms: while records come, how long after some of them to ask for more.

    Raises:
        ConfigurationError: a property is reserved, or its file cannot be read.
    """
    user = user_properties(kafka.consumer, "kafka.consumer")
    pace: Properties = {"fetch.queue.backoff.ms": max(1, pace_ms)}
    properties = {**_DEFAULTS, **pace, **shared_properties(kafka), **user}
    if properties["group.protocol"] == "consumer":
        for name in _CLASSIC_ONLY:
            if name not in kafka.consumer and name not in kafka.properties:
                del properties[name]
        properties.setdefault("group.remote.assignor", "range")
    properties |= {"group.id": group, "enable.auto.commit": False}
    if instance:
        properties["group.instance.id"] = instance
    return properties


def session_s(properties: Properties) -> float:
    """After how long without a sign of a consumer its group gives its partitions to others."""
    return int(str(properties.get("session.timeout.ms", _BROKERS_SESSION_MS))) / 1000
