"""Where outcomes go, and how surely."""

from dataclasses import dataclass

from combiner.identity import Identity
from streams.settings import KafkaSettings, Settings


@dataclass(frozen=True, slots=True)
class OutboxConfig:
    """Where to, under which identity, and how surely.

    Attributes:
        kafka: the cluster.
        group: whose offsets are committed.
        source: an input topic, of which the group keeps offsets.
        scored: topic of scored records.
        dead_letters: topic of dead letters.
        corrections: topic of corrections; empty if they go nowhere.
        ensemble: `name@version`, for dead-letter headers.
        transactional_id: stable for this slot; empty for at-least-once delivery.
        commit_interval_ms: least time between two transactions.
    """

    kafka: KafkaSettings
    group: str
    source: str
    scored: str
    dead_letters: str
    ensemble: str
    transactional_id: str
    commit_interval_ms: int
    corrections: str = ""


def outbox_config_of(settings: Settings, ensemble: str, identity: Identity) -> OutboxConfig:
    """From the configuration.

    Args:
        settings: the configuration.
        ensemble: `name@version`.
        identity: the combiner's, which stays over restarts.
    """
    combiner, topics = settings.combiner, settings.topics
    return OutboxConfig(
        settings.kafka,
        *(identity.group, topics.inputs[0], topics.scored, topics.dead_letters, ensemble),
        identity.member if combiner.delivery == "exactly_once" else "",
        combiner.commit_interval_ms,
        topics.corrections,
    )
