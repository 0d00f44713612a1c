"""Partitions that are added while a combiner runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from streams.embedded import EmbeddedKafka
from streams.errors import BrokerError
from tests.combiner.live_kit import PARTITIONS, TIMEOUT_S, Live, Reader, Verdict, judge, wait_for
from tests.conftest import Topics

MORE = PARTITIONS + 2
QUICK = {"properties": {"topic.metadata.refresh.interval.ms": 500}}


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def grow(live: Live, *names: str) -> None:
    admin = AdminClient({"bootstrap.servers": live.servers})
    for future in admin.create_partitions([NewPartitions(name, MORE) for name in names]).values():
        future.result(TIMEOUT_S)


def await_known(live: Live) -> None:
    """Wait until the test's producer knows of all partitions; asking tells it."""

    def known() -> int:
        found = live.producer.list_topics(live.events, timeout=TIMEOUT_S).topics
        return len(found[live.events].partitions)

    wait_for(lambda: known() == MORE, lambda: str(known()))


def test_partitions_of_the_inputs_alone_are_an_error_and_of_all_topics_are_taken_in(
    live: Live,
) -> None:
    live.models("a", "b")
    settings = live.settings(kafka=QUICK, combiner={"delivery": "exactly_once"})
    process = live.start(settings)
    for number in range(100):
        live.send({"id": f"e{number}", "x": 1}, number % PARTITIONS)
    process.await_said("owns [(")
    grow(live, live.events)
    assert process.wait() == BrokerError.exit_code
    assert (
        f"topic {live.events} has {MORE} partitions and {live.predictions} has 4"
        in (process.said().splitlines()[-1])
    )
    await_known(live)
    for number in range(100):
        live.send({"id": f"new-{number}", "x": 1}, number % MORE)
    live.flush()
    grow(live, live.predictions, live.scored, live.dead_letters)
    reader = live._part(Reader(live.servers, [live.scored, live.dead_letters], MORE))
    process = live.start(settings)
    live.await_outcomes(reader)
    assert judge(live.acknowledged, reader.outcomes) == Verdict()
    assert {outcome.place[1] for outcome in reader.outcomes} == set(range(MORE))


def test_partitions_added_to_all_topics_are_taken_in_by_a_running_combiner(live: Live) -> None:
    live.models("a", "b")
    process = live.start(live.settings(kafka=QUICK, combiner={"delivery": "exactly_once"}))
    process.await_said("owns [(")
    grow(live, live.predictions, live.scored, live.dead_letters, live.events)
    # The group may be asked while only some of the topics have grown; then it starts again.
    process.await_said(f"('{live.events}', {MORE - 1})]")
    await_known(live)
    for number in range(60):
        live.send({"id": f"new-{number}", "x": 1}, number % MORE)
    reader = live._part(Reader(live.servers, [live.scored, live.dead_letters], MORE))
    live.await_outcomes(reader)
    assert judge(live.acknowledged, reader.outcomes) == Verdict()
