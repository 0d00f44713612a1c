"""Librdkafka properties of consumers: ours, and the user's on top."""

from streams.client import Properties, shared_properties, user_properties
from streams.settings import KafkaSettings

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
    # A lone record is handed over at once; an idle broker is asked ten times a second.
    "fetch.wait.max.ms": 100,
    "fetch.min.bytes": 1,
    # A full queue is looked at again while there is still something in it: the default second
    # would let a fast reader run dry.
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 50,
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 65_536,
}
# What the new group protocol leaves to the broker, and objects to.
_CLASSIC_ONLY = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")


def consumer_config(kafka: KafkaSettings, group: str, instance: str = "") -> Properties:
    """Librdkafka properties of a consumer.

    Args:
        kafka: the cluster, and the user's properties, which win over ours.
        group: the consumer group.
        instance: a name that stays over restarts makes a static member; empty a dynamic one.

    Raises:
        ConfigurationError: a property is reserved, or its file cannot be read.
    """
    user = user_properties(kafka.consumer, "kafka.consumer")
    properties = {**_DEFAULTS, **shared_properties(kafka), **user}
    if properties["group.protocol"] == "consumer":
        for name in _CLASSIC_ONLY:
            if name not in kafka.consumer and name not in kafka.properties:
                del properties[name]
        properties.setdefault("group.remote.assignor", "range")
    properties |= {"group.id": group, "enable.auto.commit": False}
    if instance:
        properties["group.instance.id"] = instance
    return properties
