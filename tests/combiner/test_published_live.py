"""A committed position that is older than what was published: nothing is published again."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.plan import PARTITIONS
from chaos.reader import TIMEOUT_S, Reader, headers_of, wait_for
from chaos.verdict import Verdict
from streams.embedded import EmbeddedKafka
from streams.errors import BrokerError
from tests.combiner.live_kit import Live, Process
from tests.conftest import Topics

EVENTS = 400
SOME = 60  # of each partition
# A member that left for good keeps its place so long.
SHORT_SESSIONS = {"session.timeout.ms": "1500"}
CLEAN = Verdict()


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def send(live: Live, first: int, count: int) -> None:
    """Good events, and each tenth that cannot be scored, over all partitions."""
    for number in range(first, first + count):
        event: object = b"{" if number % 10 == 9 else {"id": f"e{number}", "x": 1}
        live.send(event, number % PARTITIONS)
    live.flush()


def start(live: Live, **combiner: object) -> Process:
    # Answers to what was scored before are not read again, nor waited for.
    combiner = {"start_up_ms": 500, **combiner}
    return live.start(live.settings(combiner=combiner, kafka={"consumer": SHORT_SESSIONS}))


def scored_once(live: Live, reader: Reader, **combiner: object) -> None:
    """A combiner that has scored all there is, and ended."""
    process = start(live, **combiner)
    live.await_outcomes(reader)
    assert process.stop() == 0


def set_back(live: Live, offsets: dict[int, int]) -> None:
    """Give the group of the combiners other positions."""
    tool = Consumer({"bootstrap.servers": live.servers, "group.id": f"{live.ensemble}.combiner"})
    places = [TopicPartition(live.events, *position) for position in offsets.items()]

    def done() -> bool:
        """Nobody else may, until the session of the last member is over."""
        with suppress(KafkaException):
            return bool(tool.commit(offsets=places, asynchronous=False))
        return False

    wait_for(done, lambda: "the group keeps its positions")
    tool.close()


def forget(live: Live) -> None:
    """The group is gone, and its positions with it."""
    admin, group = AdminClient({"bootstrap.servers": live.servers}), f"{live.ensemble}.combiner"

    def done() -> bool:
        with suppress(KafkaException):
            admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
            return True
        return False

    wait_for(done, lambda: "the group is still there")


@pytest.mark.parametrize("offset", [SOME, None])
def test_nothing_is_published_again(live: Live, offset: int | None) -> None:
    reader = live.reader()
    live.models("a", "b")
    send(live, 0, EVENTS)
    scored_once(live, reader)
    if offset is None:
        forget(live)
    else:
        set_back(live, dict.fromkeys(range(PARTITIONS), offset))
    process = start(live)
    send(live, EVENTS, EVENTS)
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    skipped = EVENTS // PARTITIONS - (offset or 0)
    for partition in range(PARTITIONS):
        process.await_said(f"{live.events}/{partition}: the committed offset {offset or 0} is old")
        assert f"; {skipped} offsets are skipped" in process.said()
    assert process.stop() == 0


def test_dead_letters_at_the_very_end_count_too(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    for number in range(10):
        live.send({"id": f"e{number}", "x": 1} if number < 6 else b"[%d]" % number, 1)
    live.flush()
    scored_once(live, reader)
    set_back(live, {1: 3})
    process = start(live)
    send(live, 10, PARTITIONS)
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert f"{live.events}/1: the committed offset 3 is older" in process.said()
    assert "; 7 offsets are skipped" in process.said()


def test_everything_again_for_whoever_wants_it(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    send(live, 0, EVENTS)
    scored_once(live, reader)
    set_back(live, dict.fromkeys(range(PARTITIONS), SOME))
    start(live, skip_published=False)
    again = EVENTS - SOME * PARTITIONS
    live.await_more(reader, again)
    assert len(reader.outcomes) == EVENTS + again


def test_in_ready_order_the_process_ends(live: Live) -> None:
    """What the tail of the outcomes does not tell is not guessed."""
    reader = live.reader()
    live.models("a", "b")
    send(live, 0, EVENTS)
    scored_once(live, reader, order="ready")
    set_back(live, dict.fromkeys(range(PARTITIONS), SOME))
    process = start(live, order="ready")
    assert process.wait() == BrokerError.exit_code
    assert 'in the order "ready" nobody can tell which others have' in process.said()
    assert len(reader.outcomes) == EVENTS


def test_a_topic_that_was_made_anew_is_scored(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    send(live, 0, EVENTS)
    scored_once(live, reader)
    admin = AdminClient({"bootstrap.servers": live.servers})
    admin.delete_topics([live.events])[live.events].result(TIMEOUT_S)
    wait_for(
        lambda: live.events not in admin.list_topics(timeout=TIMEOUT_S).topics,
        lambda: "the topic is still there",
    )
    admin.create_topics([NewTopic(live.events, PARTITIONS)])[live.events].result(TIMEOUT_S)
    # The same offsets, other events; dead letters that look as before stay where they were.
    live.acknowledged.clear()
    for number in range(EVENTS):
        live.send({"id": f"new-{number}", "x": 1}, number % PARTITIONS)
    live.flush()
    process = start(live)
    live.await_more(reader, EVENTS)
    fresh = [json.loads(o.message.value())["id"] for o in reader.outcomes[EVENTS:]]
    assert sorted(fresh) == sorted(f"new-{number}" for number in range(EVENTS))
    assert "which is another event; its topic is not the one that it was" in process.said()
    assert not any(headers_of(o.message) for o in reader.outcomes[EVENTS:])
