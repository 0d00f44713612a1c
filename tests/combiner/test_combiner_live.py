"""A combiner process from outside: exact outcomes, silent models, kills, rebalances, restarts.

Every count is made twice: by a consumer that reads while things break, and by one that reads
everything from the beginning when it is over.
"""

import os
import random
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from chaos.plan import PARTITIONS, PRIOR
from chaos.reader import TIMEOUT_S, Reader, headers_of, reading
from chaos.verdict import Outcome, Verdict, judge
from combiner import delivery as delivery_module
from combiner import outbox as outbox_module
from combiner.outbox import Outbox
from combiner.outbox_config import OutboxConfig
from combiner.rewinding import RewindError
from combiner.service import CombinerService
from combiner.shipment import Shipment
from streams.embedded import EmbeddedKafka, EmbeddedRedis
from streams.errors import BrokerError, ConfigurationError, FencedError
from streams.metrics import Metrics
from streams.records import Headers
from streams.settings import KafkaSettings, Settings
from streams.source import Source
from tests.combiner.live_kit import (
    LARGE_BYTES,
    Live,
    Process,
    answer_of,
    frames_of,
    is_hard,
    wait_for,
)
from tests.conftest import Topics

EXACTLY_ONCE = {"delivery": "exactly_once"}
CLEAN = Verdict()


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


@contextmanager
def broker_of_its_own(
    directory: Path, properties: Mapping[str, str] | None = None
) -> Iterator[tuple[EmbeddedKafka, Live]]:
    """For who stops it, or wants another one."""
    with EmbeddedKafka(directory / "kafka", properties=properties) as kafka:
        live = Live(kafka.bootstrap_servers, Topics(kafka.bootstrap_servers), directory)
        with closing(live):
            yield kafka, live


# -- exact outcomes --------------------------------------------------------------------------


def good(id_: str, **fields: object) -> dict[str, object]:
    return {"id": id_, "x": 1.5, **fields}


def test_every_field_of_a_full_ensemble(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    live.start(
        live.settings(
            models=["a", "b"], combiner={"explain": True, "threshold": 0.5},
            event={"time": "at"},
        )
    )  # fmt: skip
    for number in range(400):
        event = good(f"e{number}", at=1_700_000_000_000 + number)
        live.send(event, number % PARTITIONS, key=b"customer-%d" % (number % 7))
    live.await_outcomes(reader)
    running, after = live.verdicts(reader)
    assert (running, after) == (CLEAN, CLEAN)
    assert len(live.acknowledged) == 400
    for found in reader.outcomes:
        number = int(found.id.removeprefix("e"))
        where, _, offset = found.source.rpartition("/")
        assert where == f"{live.events}/{number % PARTITIONS}"
        assert found.place[:2] == (live.scored, number % PARTITIONS)
        assert found.message.key() == b"customer-%d" % (number % 7)
        answers = {model: answer_of(model, int(offset)) for model in ("a", "b")}
        score = sum(answers.values()) / 2
        record = dict(found.record)
        assert record.pop("score") == pytest.approx(score)
        assert record.pop("latency_ms") >= 0
        assert record.pop("predictions") == pytest.approx(answers)
        contributions = record.pop("contributions")
        assert set(contributions) == {"a", "b"}
        label = int(score >= 0.5)
        explanation = record.pop("explanation")
        assert explanation["without"] == pytest.approx({"a": answers["b"], "b": answers["a"]})
        flips = [m for m, left in explanation["without"].items() if int(left >= 0.5) != label]
        assert explanation["decisive"] == flips
        stages = record.pop("stages")
        assert stages.pop("model") in answers
        assert sum(stages.values()) == pytest.approx(found.record["latency_ms"], abs=0.01)
        assert min(stages.values()) > -2, "one clock, in whole milliseconds"
        agreeing = sum((answer >= 0.5) == bool(label) for answer in answers.values())
        assert record == {
            "id": f"e{number}",
            "label": label,
            "confidence": agreeing / 2,
            "ensemble": record["ensemble"],
            "models": ["a", "b"],
            "missing": {},
            "fallback": "none",
            "event_time": f"2023-11-14T22:13:20.{number:03d}Z",
            "source": found.source,
        }
        assert re.fullmatch(live.ensemble + "@[0-9a-f]{12}", record["ensemble"])


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_headers_go_on_to_the_score_in_the_order_of_events(live: Live, delivery: str) -> None:
    reader = live.reader()
    live.models("a", "b")
    patient = {"delivery": delivery, "deadline_ms": 5000}
    live.start(live.settings(combiner=patient, event={"pass_headers": ["traceparent", "ce_*"]}))
    for number in range(60):
        headers = [("traceparent", b"%d" % number), ("private", b"x"), ("ce_id", b"c")]
        live.send(good(f"e{number}"), number % 2, headers=headers if number % 3 else ())
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    for found in reader.outcomes:
        number = int(found.id.removeprefix("e"))
        passed = [("traceparent", str(number)), ("ce_id", "c")]
        assert headers_of(found.message) == (passed if number % 3 else []), found.id


POISON: list[tuple[str, bytes | None, str]] = [
    ("null", None, "Tombstone"),
    ("empty", b"", "NotJson"),
    ("blank", b" \n", "NotJson"),
    ("truncated", b'{"id": "p", "x": 1', "NotJson"),
    ("no object", b"[1, 2]", "WrongType"),
    ("a word", b"null", "WrongType"),
    ("UTF-16", '{"id": "p", "x": 1}'.encode("utf-16"), "NotJson"),
    ("Latin-1", '{"id": "\xe4", "x": 1}'.encode("latin-1"), "NotJson"),
    ("rubbish", bytes(range(256)), "NotJson"),
    ("missing feature", b'{"id": "p"}', "MissingFeature"),
    ("null feature", b'{"id": "p", "x": null}', "MissingFeature"),
    ("text for a number", b'{"id": "p", "x": "1"}', "WrongType"),
    ("boolean for a number", b'{"id": "p", "x": true}', "WrongType"),
    ("NaN", b'{"id": "p", "x": NaN}', "NotJson"),
    ("Infinity", b'{"id": "p", "x": Infinity}', "NotJson"),
    ("1e400", b'{"id": "p", "x": 1e400}', "WrongType"),
    ("a giant", b'{"id": "p", "x": 1%s}' % (b"0" * 400), "WrongType"),
    ("deep", b'{"id": "p", "x": 1, "y": %s}' % (b"[" * 100_000), "NotJson"),
    ("no id", b'{"x": 1}', "NoId"),
    ("empty id", b'{"id": "", "x": 1}', "NoId"),
    ("long id", b'{"id": "%s", "x": 1}' % (b"i" * 2000), "NoId"),
    ("a frame", b"\x9a\x01\xa1a", "NotJson"),
]


def test_poison_is_told_apart_and_everything_around_it_scored(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    process = live.start(live.settings(combiner=EXACTLY_ONCE))
    for number, (name, value, _) in enumerate(POISON):
        live.send(good(f"before-{number}"), key=b"k%d" % number)
        live.send(value, key=name.encode(), headers=[("trace", b"t%d" % number), ("trace", b"2")])
    live.send(good("last"))
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    scored = [found for found in reader.outcomes if found.record]
    dead = sorted(
        (found for found in reader.outcomes if not found.record),
        key=lambda found: int(found.source.rpartition("/")[2]),
    )
    assert [found.id for found in scored] == [
        *(f"before-{number}" for number in range(len(POISON))), "last",
    ]  # fmt: skip
    assert {found.record["fallback"] for found in scored} == {"none"}
    assert len(dead) == len(POISON)
    for number, (found, (name, value, kind)) in enumerate(zip(dead, POISON, strict=True)):
        assert found.place[0] == live.dead_letters
        assert (found.message.key(), found.message.value()) == (name.encode(), value)
        originals, ours = headers_of(found.message)[:2], dict(headers_of(found.message)[2:])
        assert originals == [("trace", f"t{number}"), ("trace", "2")]
        assert ours.pop(Headers.MESSAGE), name
        assert re.fullmatch(live.ensemble + "@[0-9a-f]{12}", ours.pop(Headers.ENSEMBLE))
        assert ours == {
            Headers.TOPIC: live.events,
            Headers.PARTITION: "0",
            Headers.OFFSET: str(2 * number + 1),
            Headers.STAGE: "decode",
            Headers.CLASS: kind,
        }, name
    assert process.stop() == 0


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize(
    ("topic_takes", "producer_takes"),
    [(LARGE_BYTES, LARGE_BYTES), (0, LARGE_BYTES), (0, 0)],
    ids=["takes it", "topic refuses it", "producer refuses it"],
)
def test_a_dead_letter_of_5_mb(
    kafka: EmbeddedKafka,
    topics: Topics,
    tmp_path: Path,
    topic_takes: int,
    producer_takes: int,
    delivery: str,
) -> None:
    live = Live(kafka.bootstrap_servers, topics, tmp_path, dead_letter_limit=topic_takes)
    try:
        reader = live.reader()
        live.models("a", "b")
        kafka_table = {"producer": {"message.max.bytes": producer_takes} if producer_takes else {}}
        live.start(live.settings(combiner={"delivery": delivery}, kafka=kafka_table))
        value = b'{"id": "' + b"v" * 5_000_000
        for number in range(200):
            live.send(good(f"before-{number}"), number % PARTITIONS)
        live.send(value, 1, key=b"large", headers=[("trace", b"1")])
        for number in range(200):
            live.send(good(f"behind-{number}"), number % PARTITIONS)
        live.await_outcomes(reader)
        everything = live.everything()
        verdict = judge(live.acknowledged, everything)
        repeated = verdict.duplicates if delivery == "at_least_once" else []
        assert verdict == Verdict(duplicates=repeated)
        assert {found.record["fallback"] for found in everything if found.record} == {"none"}
        for found in everything:
            if found.record:
                continue
            assert found.message.key() == b"large"
            headers = dict(headers_of(found.message))
            assert headers["trace"] == "1"
            if topic_takes:
                assert found.message.value() == value
                assert Headers.ORIGINAL_BYTES not in headers
            else:
                kept = found.message.value() or b""
                assert value.startswith(kept)
                assert 100_000 <= len(kept) < 1_000_000
                assert headers[Headers.ORIGINAL_BYTES] == str(len(value))
    finally:
        live.close()


# -- models that do not answer ---------------------------------------------------------------


def send_alone(live: Live, reader: Reader, id_: str, **fields: object) -> dict[str, Any]:
    """Send one event and nothing more until its score is there."""
    live.send(good(id_, **fields))
    live.await_outcomes(reader)
    return reader.outcomes[-1].record


def test_a_silent_model_is_late_then_failed_then_back(live: Live) -> None:
    deadline_ms, minimum, recovered = 600, 5, 4
    reader = live.reader()
    health = live.reported_health()
    models = live.models("a", "b", "c")
    live.start(
        live.settings(
            ["a", "b", "c"],
            combiner={"deadline_ms": deadline_ms},
            # The window never forgets during the test, so that what counts is counted exactly.
            health={
                "window_ms": 600_000, "minimum_events": minimum, "recovered_events": recovered,
                "degraded_share": 0.9, "failed_share": 1.0,
            },
        )
    )  # fmt: skip
    assert send_alone(live, reader, "first")["fallback"] == "none"
    models.behaviour["c"] = "silent"
    late = [send_alone(live, reader, f"late-{number}") for number in range(minimum)]
    assert [(r["fallback"], r["models"], r["missing"]) for r in late] == [
        ("partial", ["a", "b"], {"c": "late"})
    ] * minimum
    # Nothing came in meanwhile: the deadline alone let them go.
    assert min(record["latency_ms"] for record in late) >= deadline_ms - 5
    failed = [send_alone(live, reader, f"failed-{number}") for number in range(20)]
    assert {(r["fallback"], str(r["missing"])) for r in failed} == {("partial", "{'c': 'failed'}")}
    # Nobody waited for it: a loaded machine may be slow, but not twenty times in a row.
    assert min(record["latency_ms"] for record in failed) < deadline_ms / 2
    health.await_state("c", "FAILED")
    models.behaviour["c"] = "answers"
    for number in range(5 * recovered):
        record = send_alone(live, reader, f"back-{number}")
        # Its answer counts if it is there in time, but for a while nobody waits for it.
        assert record["missing"] in ({}, {"c": "failed"}), record
    # Verdicts are given at the deadlines, with no event that comes in: those on the silence, behind
    # which the answers since then stand.
    health.await_state("c", "PROBING", "HEALTHY")
    send_alone(live, reader, "one more")
    health.await_state("c", "HEALTHY")
    # It is waited for again: the next silence costs a deadline.
    models.behaviour["c"] = "silent"
    again = send_alone(live, reader, "again")
    assert again["missing"] == {"c": "late"}
    assert again["latency_ms"] >= deadline_ms - 5
    assert live.verdicts(reader) == (CLEAN, CLEAN)


def test_answers_that_do_not_count(live: Live) -> None:
    """Refusals, repeated answers, other versions, other ranges, foreign and broken frames."""
    reader = live.reader()
    models = live.models("a", "b", "c", "d", "e")
    models.behaviour |= {
        "b": "refuses", "c": "twice", "d": "wrong version", "e": "out of range",
    }  # fmt: skip
    live.start(live.settings(["a", "b", "c", "d", "e"], combiner={"deadline_ms": 1000}))
    rubbish: list[bytes | None] = [None, b"", b"{", b"\xff" * 100, b"[1]", b'{"model": "a"}']
    for value in rubbish:
        live.send_answer(value, 0)
    live.send_frame(frames_of("answers", "stranger", live.events, 0, [0])[0])
    live.send_frame(frames_of("answers", "a", "elsewhere", 0, [0])[0])
    live.send_frame(frames_of("answers", "a", live.events, 0, [10_000])[0])
    record = send_alone(live, reader, "only")
    assert record["models"] == ["a", "c"]
    answers = [answer_of(model, 0) for model in "ac"]
    assert record["score"] == pytest.approx(sum(answers) / 2)
    assert record["missing"] == {
        "b": "refused: not today",
        "d": "late",
        "e": f"refused: {answer_of('e', 0) + 5.0} outside [0.0, 1.0]",
    }
    assert live.verdicts(reader) == (CLEAN, CLEAN)


def test_without_any_model_the_last_score_or_the_prior(
    live: Live, redis_server: EmbeddedRedis
) -> None:
    reader = live.reader()
    models = live.models("a", "b")
    settings = live.settings(
        cache={"url": redis_server.url, "timeout_ms": 1000}, combiner={"start_up_ms": 500}
    )
    process = live.start(settings)
    scores = {}
    for number in range(20):
        live.send(good(f"e{number}"), key=b"customer-%d" % number)
    live.await_outcomes(reader)
    for found in reader.outcomes:
        assert found.record["fallback"] == "none"
        scores[found.message.key()] = found.record["score"]
    assert process.stop() == 0
    models.behaviour = dict.fromkeys(models.behaviour, "silent")
    # Another process: it can have them from Redis only.
    live.start(settings)
    before = len(reader.outcomes)
    for number in range(40):
        live.send(good(f"again-{number}"), key=b"customer-%d" % number)
    live.await_outcomes(reader)
    for number, found in enumerate(reader.outcomes[before:]):
        record, key = found.record, b"customer-%d" % number
        known = number < 20
        assert record["fallback"] == ("cached" if known else "prior")
        assert record["score"] == (scores[key] if known else PRIOR)
        assert ("cached_age_ms" in record) == known
        assert record["models"] == []
        assert set(record["missing"]) == {"a", "b"}
    assert live.verdicts(reader) == (CLEAN, CLEAN)


@pytest.mark.parametrize("fault", ["refused", "stopped"])
def test_a_redis_that_is_away_costs_no_score(live: Live, tmp_path: Path, fault: str) -> None:
    with EmbeddedRedis(tmp_path / "redis") as redis:
        reader = live.reader()
        models = live.models("a", "b")
        # So patient that only models that say nothing are missing, however busy the machine is.
        live.start(live.settings(cache={"url": redis.url}, combiner={"deadline_ms": 2000}))
        send_alone(live, reader, "before")
        if fault == "refused":
            redis.kill()
        else:
            os.kill(redis.pid, signal.SIGSTOP)
        for number in range(400):
            live.send(good(f"full-{number}"), number % PARTITIONS, key=b"k%d" % number)
        live.await_outcomes(reader)
        assert {found.record["fallback"] for found in reader.outcomes} == {"none"}
        models.behaviour = dict.fromkeys(models.behaviour, "silent")
        before = len(reader.outcomes)
        for number in range(400):
            live.send(good(f"none-{number}"), number % PARTITIONS, key=b"new%d" % number)
        live.await_outcomes(reader)
        assert {found.record["fallback"] for found in reader.outcomes[before:]} == {"prior"}
        assert live.verdicts(reader) == (CLEAN, CLEAN)
        if fault == "stopped":
            os.kill(redis.pid, signal.SIGCONT)


# -- a backlog -------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_backlog_is_scored_with_all_models_whatever_the_order(live: Live, first: str) -> None:
    """All frames of one model lie before all frames of the other."""
    reader = live.reader()
    per_partition = 5000 // PARTITIONS
    for number in range(5000):
        live.send(good(f"e{number}"), number % PARTITIONS)
    for model in (first, "ab".replace(first, "")):
        for start in range(0, per_partition, 100):
            for partition in range(PARTITIONS):
                offsets = range(start, min(start + 100, per_partition))
                for frame in frames_of("answers", model, live.events, partition, offsets):
                    live.send_frame(frame)
    live.flush()
    live.start(live.settings(combiner=EXACTLY_ONCE))
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert Counter(found.record["fallback"] for found in reader.outcomes) == {"none": 5000}


# -- kills, stops, rebalances ----------------------------------------------------------------

RATE_PER_S = 1000
# So patient that a busy machine makes no fallbacks: then any other rung than `none` means that
# answers were lost on the way through a restart.
# Longer than a busy machine takes for anything: who answers is not late here.
PATIENT = {"deadline_ms": 15_000}
# A member that left for good is missed soon.
SESSION_S = 2
SHORT_SESSIONS = {
    "consumer": {"session.timeout.ms": SESSION_S * 1000, "heartbeat.interval.ms": 200}
}
# What it had begun holds up whoever has its partitions next, until this has passed.
SHORT_TRANSACTIONS = {"producer": {"transaction.timeout.ms": SESSION_S * 1000}}


def rungs(outcomes: list[Outcome]) -> set[str]:
    return {found.record["fallback"] for found in outcomes}


def kill_under_load(live: Live, reader: Reader, settings: Settings, kills: int) -> Process:
    """Kill and start again, each time at another moment; the process that runs at the end."""
    chance = random.Random(7)
    process = live.start(settings)
    for _ in range(kills):
        live.await_more(reader, chance.randrange(1, 800))
        process.kill()
        process = live.start(settings)
    live.await_more(reader, 1)
    return process


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_kills_under_load(live: Live, delivery: str) -> None:
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = live.settings(combiner=PATIENT | {"delivery": delivery})
    process = kill_under_load(live, reader, settings, kills=6)
    load.close()
    live.await_outcomes(reader)
    assert process.stop() == 0
    for verdict in live.verdicts(reader):
        repeated = verdict.duplicates if delivery == "at_least_once" else []
        assert verdict == Verdict(duplicates=repeated)
    assert rungs(reader.outcomes) == {"none"}
    assert len(live.acknowledged) > RATE_PER_S


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_sigterm_under_load_loses_and_repeats_nothing(live: Live, delivery: str) -> None:
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = live.settings(combiner=PATIENT | {"delivery": delivery})
    for _ in range(3):
        process = live.start(settings)
        # What the one before it published may still be on its way to the reader.
        process.await_said(" owns [(")
        live.await_more(reader, 500)
        assert process.stop() == 0
    live.start(settings)
    load.close()
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert rungs(reader.outcomes) == {"none"}


def leaves_ahead(live: Live) -> bool:
    """Whether a committed offset says that something behind it has left already."""
    consumer = Consumer(
        {"bootstrap.servers": live.servers, "group.id": f"{live.ensemble}.combiner"}
    )
    try:
        places = [TopicPartition(live.events, partition) for partition in range(PARTITIONS)]
        return any(place.metadata for place in consumer.committed(places, TIMEOUT_S))
    finally:
        consumer.close()


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_kills_while_scores_leave_as_they_are_ready(live: Live, delivery: str) -> None:
    """One model is slow for one event in ten: the others leave ahead of it, and never again."""
    reader = live.reader()
    models = live.models("a", "b")
    models.behaviour["b"] = "slow tenth"
    load = live.load(RATE_PER_S)
    settings = live.settings(combiner=PATIENT | {"delivery": delivery, "order": "ready"})
    chance = random.Random(11)
    process = live.start(settings)
    for kill in range(12):
        live.await_more(reader, chance.randrange(200, 800))
        if kill >= 5 and "ranges ahead" in live.processes[0].said():
            break
        if kill >= 4:
            # Backlog is answered already; behind it slow answers are waited for all the time.
            wait_for(lambda: leaves_ahead(live), lambda: "nothing left ahead of a commit")
        process.kill()
        process = live.start(settings)
    else:
        pytest.fail("no combiner was killed while its commit said what had left ahead")
    load.close()
    live.await_outcomes(reader)
    assert process.stop() == 0
    for verdict in live.verdicts(reader):
        repeated = verdict.duplicates if delivery == "at_least_once" else []
        assert verdict == Verdict(duplicates=repeated, disordered=verdict.disordered)
        assert verdict.disordered
    assert rungs(reader.outcomes) == {"none"}


def test_ready_scores_do_not_wait_for_slow_ones(live: Live) -> None:
    reader = live.reader()
    models = live.models("a", "b")
    models.behaviour["b"] = "waiting tenth"
    # Longer than any wait of this test: no event leaves for its deadline.
    forever = {"deadline_ms": 2000 * TIMEOUT_S, "order": "ready"}
    live.start(live.settings(combiner=EXACTLY_ONCE | forever))
    for number in range(2000):
        live.send(good(f"event-{number}"), number % PARTITIONS)
    live.flush()
    quick = {place for place in live.acknowledged if not is_hard(int(place.rpartition("/")[2]))}
    assert len(quick) == 1800
    wait_for(lambda: quick <= reader.sources, lambda: f"{len(reader.sources)} of {len(quick)}")
    assert reader.sources == quick, "an answer came for an event that still waits"
    models.behaviour["b"] = "answers"
    live.await_outcomes(reader)
    assert rungs(reader.outcomes) == {"none"}


def test_metadata_that_is_none_of_ours_is_an_error(live: Live) -> None:
    live.send(good("first"), 0)
    live.flush()
    settings = live.settings()
    group = f"{live.ensemble}.combiner"
    tool = reading(live.servers, **{"group.id": group})
    strange = TopicPartition(live.events, 0, 0, "batch-17")
    tool.commit(offsets=[strange], asynchronous=False)
    tool.close()
    process = live.start(settings)
    assert process.wait() == ConfigurationError.exit_code
    assert "'batch-17'" in process.said()


def owned(live: Live, count: int) -> str:
    """What a combiner says that owns the first partitions."""
    return f"owns {[(live.events, partition) for partition in range(count)]}"


def test_a_second_combiner_joins_and_leaves_under_load(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = live.settings(combiner=PATIENT | EXACTLY_ONCE, kafka=SHORT_SESSIONS)
    first = live.start(settings, "0")
    live.await_more(reader, 500)
    for times in range(1, 3):
        second = live.start(settings, "1")
        first.await_said(owned(live, PARTITIONS // 2), times)
        second.await_said("owns [(")
        live.await_more(reader, 500)
        assert second.stop() == 0
        first.await_said(owned(live, PARTITIONS), times + 1)
        live.await_more(reader, 500)
    load.close()
    live.await_outcomes(reader)
    assert first.stop() == 0
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert rungs(reader.outcomes) == {"none"}


def test_another_one_takes_over_from_one_that_was_killed_for_good(tmp_path: Path) -> None:
    """What the dead one had begun is ended by the broker, and holds nobody up for long."""
    # The broker looks for transactions without an owner every ten seconds by default.
    often = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}
    with broker_of_its_own(tmp_path, often) as (_, live):
        reader = live.reader()
        live.models("a", "b")
        load = live.load(RATE_PER_S)
        short = SHORT_SESSIONS | SHORT_TRANSACTIONS
        settings = live.settings(combiner=PATIENT | EXACTLY_ONCE, kafka=short)
        survivor = live.start(settings, "0")
        for times in range(1, 3):
            victim = live.start(settings, "1")
            victim.await_said("owns [(")
            live.await_more(reader, 500)
            victim.kill()
            survivor.await_said(owned(live, PARTITIONS), times)
            live.await_more(reader, 500)
        load.close()
        live.await_outcomes(reader)
        assert live.verdicts(reader) == (CLEAN, CLEAN)
        assert rungs(reader.outcomes) == {"none"}


def test_the_older_of_two_in_one_slot_is_fenced(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = live.settings(combiner=PATIENT | EXACTLY_ONCE)
    for _ in range(2):
        first = live.start(settings)
        live.await_more(reader, 500)
        second = live.start(settings)
        assert first.wait() == FencedError.exit_code, first.said()
        live.await_more(reader, 500)
        second.kill()
    live.start(settings)
    load.close()
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert rungs(reader.outcomes) == {"none"}


def test_one_that_slept_leaves_its_slot_to_whoever_has_it_by_now(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = live.settings(
        combiner=PATIENT | EXACTLY_ONCE, kafka=SHORT_SESSIONS | SHORT_TRANSACTIONS
    )
    first = live.start(settings)
    for _ in range(2):
        live.await_more(reader, 500)
        os.kill(first.process.pid, signal.SIGSTOP)
        second = live.start(settings)
        second.await_said("owns [(")
        # The first one's session is over, and it has not heard of the second.
        live.await_more(reader, int(3 * SESSION_S * RATE_PER_S))
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.wait() == FencedError.exit_code, first.said()
        live.await_more(reader, 500)
        assert second.process.poll() is None, second.said()
        first = second
    load.close()
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)


def test_one_that_slept_too_long_does_no_harm(live: Live) -> None:
    """Its partitions went to another one; what it had begun must not count."""
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = live.settings(
        combiner=PATIENT | EXACTLY_ONCE, kafka=SHORT_SESSIONS | SHORT_TRANSACTIONS
    )
    first = live.start(settings, "0")
    live.await_more(reader, 500)
    second = live.start(settings, "1")
    second.await_said("owns [(")
    for times in range(1, 3):
        live.await_more(reader, 500)
        os.kill(first.process.pid, signal.SIGSTOP)
        try:
            second.await_said(owned(live, PARTITIONS), times)
            # Longer than its session by its own clock, too.
            live.await_more(reader, int(SESSION_S * RATE_PER_S))
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
        assert first.wait() == FencedError.exit_code, first.said()
        live.await_more(reader, 500)
        first = live.start(settings, "0")
        first.await_said("owns [(")
    load.close()
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert rungs(reader.outcomes) == {"none"}


def test_clients_that_forget_their_broker_when_it_stops_are_told_of_it_again(
    tmp_path: Path,
) -> None:
    """Whoever asks for metadata while it goes may be told that there is no broker at all."""
    with broker_of_its_own(tmp_path) as (kafka, live):
        reader = live.reader()
        live.models("a", "b")
        load = live.load(RATE_PER_S)
        asking = {"properties": {"topic.metadata.refresh.interval.ms": 10}}
        settings = live.settings(combiner=PATIENT | EXACTLY_ONCE, kafka=asking)
        process = live.start(settings)
        for _ in range(10):
            live.await_more(reader, 500, restarting=settings)
            kafka.stop()
            kafka.start()
            live.await_more(reader, 500, restarting=settings)
            if "was told of them" in process.log.read_text():
                break
        else:
            pytest.fail("in ten stops no client lost its broker")
        load.close()
        live.count_copies()
        live.await_outcomes(reader, restarting=settings)
        assert live.verdicts(reader) == (CLEAN, CLEAN)


@pytest.mark.parametrize(
    ("delivery", "ends"), [("exactly_once", ["stop", "kill"]), ("at_least_once", ["kill"])]
)
def test_a_broker_that_restarts_under_load(tmp_path: Path, delivery: str, ends: list[str]) -> None:
    with broker_of_its_own(tmp_path) as (kafka, live):
        reader = live.reader()
        live.models("a", "b")
        load = live.load(RATE_PER_S)
        settings = live.settings(combiner=PATIENT | {"delivery": delivery})
        live.start(settings)
        for end in ends:
            live.await_more(reader, 1000)
            kafka.stop() if end == "stop" else kafka.kill()
            kafka.start()
            live.await_more(reader, 1000, restarting=settings)
        load.close()
        live.count_copies()
        live.await_outcomes(reader, restarting=settings)
        for verdict in live.verdicts(reader):
            if delivery == "at_least_once":
                # What was decided without answers that were stuck in the broker is decided
                # again with them.
                verdict.duplicates, verdict.contradictory = [], []
            assert verdict == CLEAN


# -- what no fault brings about for sure -----------------------------------------------------


def test_a_record_of_a_partition_that_is_given_back_within_the_fetch_is_dropped(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(partition: int, offset: int) -> Message:
        return Message(topic=live.events, partition=partition, offset=offset)

    class Rebalancing:
        """Hands over one record, then gives partitions back and hands over what comes next."""

        def __init__(self, given_back: list[int]) -> None:
            self.given_back = given_back

        def consume(self, _count: int, timeout_s: float) -> list[Message]:
            if timeout_s:
                return [record(0, 7)]
            places = [TopicPartition(live.events, partition) for partition in self.given_back]
            source._membership._revoked(real, places)
            return [record(0, 5)]

    source = Source(live.settings().kafka, group="g", topics=[live.events])
    real = source.consumer
    try:
        for given_back, expected in (([], [7, 5]), ([1], [7, 5]), ([0, 1], [5])):
            monkeypatch.setattr(source, "consumer", Rebalancing(given_back))
            assert [found.offset() for found in source.fetch(10, 1.0)] == expected
    finally:
        real.close()


class StuckProducer:
    """A client that does not come back from a transaction."""

    def __init__(self, _properties: object) -> None:
        self.let_go = threading.Event()
        self.entered = threading.Event()

    def list_topics(self, _topic: str, _timeout_s: float) -> None:
        """Nothing."""

    def init_transactions(self, _timeout_s: float) -> None:
        """Nothing."""

    def begin_transaction(self) -> None:
        """Nothing."""

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.entered.set()
        assert self.let_go.wait(TIMEOUT_S)

    def commit_transaction(self, _timeout_s: float) -> None:
        """Nothing."""


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Outbox, StuckProducer]]:
    """An outbox whose first transaction is under way and does not end."""
    monkeypatch.setattr(delivery_module, "Producer", StuckProducer)
    monkeypatch.setattr(outbox_module, "give_up_what_hangs", lambda *_: None)
    config = OutboxConfig(KafkaSettings(), "g", "events", "s", "d", "e@1", "e.0", 0)
    outbox = Outbox(config, lambda _outputs, _took_s: None)
    producer = cast("StuckProducer", outbox._producer)
    outbox.ship(Shipment([], {("events", 0): 1}))
    assert producer.entered.wait(TIMEOUT_S)
    yield outbox, producer
    producer.let_go.set()
    outbox.close(TIMEOUT_S)


def test_a_transaction_without_end_is_given_up_and_its_thread_left_behind(
    stuck: tuple[Outbox, StuckProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, _ = stuck
    outbox.check()
    monkeypatch.setattr(outbox_module, "_STUCK_S", 0.0)
    with pytest.raises(RewindError, match="did not end within") as raised:
        outbox.check()
    assert raised.value.doubtful
    outbox.close(TIMEOUT_S)
    assert outbox._thread.is_alive()


def test_one_that_is_stuck_again_and_again_ends_the_process(
    stuck: tuple[Outbox, StuckProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_STUCK_S", 0.0)
    service = object.__new__(CombinerService)
    service._outbox, service._rewinds = stuck[0], 5
    with pytest.raises(BrokerError, match="5 times in a row"):
        service._rewind(RewindError("a transaction did not end"), threading.Event())


def test_what_is_abandoned_never_leaves(stuck: tuple[Outbox, StuckProducer]) -> None:
    outbox, producer = stuck
    outbox.ship(Shipment([], {("events", 1): 1}))
    outbox.abandon()
    with pytest.raises(RewindError):
        outbox.check()
    producer.entered.clear()
    producer.let_go.set()
    outbox.close(TIMEOUT_S)
    assert not producer.entered.is_set()


def test_what_waits_does_not_leave_under_a_producer_that_is_given_up(
    stuck: tuple[Outbox, StuckProducer],
) -> None:
    """However the transaction under way ends: what it left in some partitions would count."""
    outbox, producer = stuck
    outbox.ship(Shipment([], {("events", 1): 1}))
    service = object.__new__(CombinerService)
    service._outbox, service._rewinds, service._metrics = outbox, 0, Metrics()
    stop = threading.Event()
    stop.set()
    service._rewind(RewindError("no broker answers"), stop)
    producer.entered.clear()
    producer.let_go.set()
    outbox.close(TIMEOUT_S)
    assert not producer.entered.is_set()


def test_what_is_thrown_away_does_not_hide_why(stuck: tuple[Outbox, StuckProducer]) -> None:
    outbox, _ = stuck
    for code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._PURGE_QUEUE):
        outbox._delivery._note(KafkaError(code), None)
    assert outbox.too_large
