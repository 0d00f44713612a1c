"""One of three brokers dies: the one that keeps the offsets of the combiner's group."""

from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from chaos.reader import wait_for
from chaos.verdict import Verdict
from streams.embedded import EmbeddedCluster
from streams.embedded.broker import Broker
from tests.combiner.live_kit import Live
from tests.conftest import TOPIC_TIMEOUT_S, Topics

RATE_PER_S = 500


def coordinator_of(cluster: EmbeddedCluster, group: str) -> Broker:
    """The broker that keeps a group's offsets."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
    found: list[int] = []

    def told() -> bool:
        # A client that is just learning which brokers there are gives an unlucky request up.
        with suppress(KafkaException):
            description = admin.describe_consumer_groups([group])[group].result(TOPIC_TIMEOUT_S)
            found.append(description.coordinator.id)
        return bool(found)

    wait_for(told, lambda: f"nobody says who coordinates {group}")
    return next(broker for broker in cluster.brokers if broker.node_id == found[0])


def test_the_group_coordinator_dies_under_load(tmp_path: Path) -> None:
    """librdkafka may look for it in vain until long after another broker took its place."""
    with EmbeddedCluster(tmp_path / "kafka", brokers=3) as cluster:
        servers = cluster.bootstrap_servers
        live = Live(servers, Topics(servers), tmp_path)
        try:
            reader = live.reader()
            live.models("a", "b")
            load = live.load(RATE_PER_S)
            combiner = {"delivery": "exactly_once", "deadline_ms": 3000}
            settings = live.settings(combiner=combiner)
            live.start(settings)
            # Three brokers that have just started may take longer than a session for an answer.
            live.await_more(reader, 2 * RATE_PER_S, restarting=settings)
            coordinator_of(cluster, f"{live.ensemble}.combiner").kill()
            # What waited meanwhile, and more than a deadline of what is new.
            live.await_more(reader, 10 * RATE_PER_S)
            load.close()
            live.count_copies()
            live.await_outcomes(reader)
            assert live.processes[-1].stop() == 0, "it went on by itself"
            assert live.verdicts(reader) == (Verdict(), Verdict())
        finally:
            live.close()
