"""`ensemble dead-letters` with a real broker: filters, attempts, kills, and the end of the loop."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from chaos.reader import Reader, headers_of
from chaos.stage import ROOT
from replay.resend import BATCH_LETTERS
from streams.embedded import EmbeddedKafka
from streams.events import BadEvent
from streams.records import Headers, dead_letter_headers
from tests.cli.cli_kit import WAIT_S, ensemble, write_config
from tests.combiner.live_kit import Live
from tests.conftest import Topics

EXTERNAL = '[[models]]\nname = "{}"\nexternal = true\nversion = "1"\n'
Headings = list[tuple[str, str]]
DESK_STEPS = ("after produce", "after send_offsets", "before commit", "after commit")


class Letters:
    """Dead letters of a test, written as the combiner writes them."""

    def __init__(self, kafka: EmbeddedKafka, topics: Topics, directory: Path) -> None:
        self.servers = kafka.bootstrap_servers
        self.config = write_config(directory, self.servers, topics, '[event]\nid = "id"')
        self.events, self.dead = topics("events", 2), topics("dead_letters", 2)
        self.producer = Producer(
            {"bootstrap.servers": self.servers, "transactional.id": topics.prefix + "test"}
        )
        self.producer.init_transactions(WAIT_S)

    def write(self, count: int, *, per_transaction: int = 7, cut: bool = False) -> None:
        """Letters in small transactions, whose markers leave gaps in the offsets."""
        for start in range(0, count, per_transaction):
            self.producer.begin_transaction()
            for number in range(start, min(start + per_transaction, count)):
                bad = BadEvent(0, "NoId" if number % 3 else "WrongType", "…")
                headers = dead_letter_headers(
                    [("n", b"%d" % number)], self.events, number % 2, number, bad, "e@1"
                )
                headers += [(Headers.ORIGINAL_BYTES, b"9999999")] * cut
                value = json.dumps({"id": f"e{number}"}).encode()
                self.producer.produce(
                    self.dead, value=value, key=b"k%d" % number, headers=list(headers)
                )
            self.producer.commit_transaction(WAIT_S)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = ensemble("dead-letters", *arguments, "-c", self.config)
        assert done.returncode == 0, done.stderr
        return done

    def replay(self, *arguments: str) -> dict[str, int]:
        counted: dict[str, int] = json.loads(self.run("replay", "--json", *arguments).stdout)
        return {fate: count for fate, count in counted.items() if fate != "dry_run"}

    def sent(self) -> list[tuple[int, bytes, bytes, Headings]]:
        """Partition, key, value and headers of everything in the input topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers, "group.id": "test",
                "isolation.level": "read_committed", "enable.partition.eof": True,
            }
        )  # fmt: skip
        consumer.assign([TopicPartition(self.events, partition, 0) for partition in range(2)])
        found, ended = [], 0
        while ended < 2:
            [message] = consumer.consume(1, WAIT_S)
            error = message.error()
            if error is None:
                found.append(
                    (
                        message.partition() or 0, message.key() or b"", message.value() or b"",
                        headers_of(message),
                    )
                )  # fmt: skip
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
        consumer.close()
        return found


@pytest.fixture
def letters(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Letters:
    return Letters(kafka, topics, tmp_path)


def test_what_was_sent_is_what_came(letters: Letters) -> None:
    letters.write(20)
    dry = letters.run("replay", "--dry-run")
    assert dry.stdout.splitlines()[-1] == "20 would be sent"
    assert letters.sent() == []
    assert letters.replay() == {"sent": 20}
    assert sorted(letters.sent()) == sorted(
        (
            number % 2,
            b"k%d" % number,
            b'{"id": "e%d"}' % number,
            [("n", f"{number}"), (Headers.ATTEMPTS, "1")],
        )
        for number in range(20)
    )
    # Once is once, and all below the mark is not even read again.
    assert letters.replay() == {}
    assert len(letters.sent()) == 20


def test_filters_leave_the_others_for_later(letters: Letters) -> None:
    letters.write(30)
    assert letters.replay("--error", "WrongType", "--partition", "0") == {"sent": 5}
    # The very first letter is one of them, and below the mark now.
    assert letters.replay("--error", "WrongType", "--partition", "0") == {"done_before": 4}
    assert letters.replay("--id", "e7") == {"sent": 1}
    assert letters.replay("--id", f"{letters.events}/0/8") == {"sent": 1}
    assert letters.replay("--id", "k10") == {"sent": 1}
    assert letters.replay("--until", "-1h") == {}
    lines = letters.run("list", "--json", "--since", "-1h").stdout.splitlines()
    listed = [json.loads(line) for line in lines]
    assert Counter(each["state"] for each in listed) == {"open": 22, "sent": 8}
    assert {e["source"] for e in listed if e["state"] == "sent"} == {
        f"{letters.events}/{number % 2}/{number}" for number in (0, 6, 12, 18, 24, 7, 8, 10)
    }
    assert letters.replay() == {"sent": 22, "done_before": letters_between(listed)}
    assert Counter(key for _, key, _, _ in letters.sent()) == {b"k%d" % n: 1 for n in range(30)}


def letters_between(listed: list[dict[str, str]]) -> int:
    """Letters that were sent before and lie behind one that was not."""
    count, is_open = 0, dict[str, bool]()
    for each in listed:
        partition = each["letter"].partition("/")[0]
        if each["state"] == "open":
            is_open[partition] = True
        elif is_open.get(partition):
            count += 1
    return count


def test_show_and_what_is_cut(letters: Letters) -> None:
    letters.write(2, cut=True)
    shown = letters.run("show", f"{letters.events}/1/1").stdout
    assert "error:     NoId" in shown
    assert "header:    n = '1'" in shown
    assert "bytes:     9999999" in shown
    assert "state:     cut" in shown
    whole = json.loads(letters.run("show", f"{letters.events}/1/1", "--json").stdout)
    assert whole["value"] == '{"id": "e1"}'
    missing = ensemble("dead-letters", "show", "x/0/0", "-c", letters.config)
    assert (missing.returncode, missing.stderr) == (1, "x/0/0: no dead letter\n")
    assert letters.run("replay").stdout.splitlines()[-1] == "2 cut, so not sent"
    assert letters.sent() == []


@pytest.mark.parametrize("step", DESK_STEPS)
def test_kill_9_in_the_middle_neither_loses_nor_repeats(letters: Letters, step: str) -> None:
    count = 5 * BATCH_LETTERS
    letters.write(count, per_transaction=BATCH_LETTERS)
    for _ in range(2):
        killed_at(step, letters)
    # Of each life the first transaction, and at most the second.
    assert 2 * BATCH_LETTERS <= len(letters.sent()) < count
    letters.replay()
    found = letters.sent()
    assert Counter(key for _, key, _, _ in found) == {b"k%d" % number: 1 for number in range(count)}
    assert {dict(headers)[Headers.ATTEMPTS] for _, _, _, headers in found} == {"1"}


def killed_at(step: str, letters: Letters) -> None:
    """Send, and die within the second transaction."""
    passes = 1 + BATCH_LETTERS if step == "after produce" else 2
    wrapper = ["chaos.wrapper", "--die", step, "--passes", str(passes), "--"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *wrapper, "dead-letters", "replay", "-c", letters.config],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def await_count(live: Live, reader: Reader, count: int) -> None:
    """Wait until so many outcomes were read in all."""
    missing = count - len(reader.outcomes)
    if missing > 0:
        live.await_more(reader, missing)
    assert len(reader.outcomes) == count


def test_an_event_that_fails_again_and_again_is_given_up(
    kafka: EmbeddedKafka, topics: Topics, tmp_path: Path
) -> None:
    """With a combiner in the loop, which carries the count on."""
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    try:
        config = write_config(
            tmp_path, live.servers, topics,
            models="".join(EXTERNAL.format(name) for name in "ab"),
        )  # fmt: skip
        text = config.read_text().replace('dead_letters"', 'dead-letters"')
        config.write_text(text.replace("[ensemble]", f'[ensemble]\nbundle = "{live.bundle}"'))
        reader = live.reader()
        live.models("a", "b")
        live.start(live.settings(combiner={"delivery": "exactly_once"}))
        live.send(b'{"id": "p", "x": "1"}', 1, key=b"k", headers=[("trace", b"t")])
        live.send({"id": "good", "x": 1}, 1)
        live.await_outcomes(reader)
        for attempt in range(1, 4):
            done = ensemble("dead-letters", "replay", "--json", "-c", config)
            assert json.loads(done.stdout) == {"dry_run": False, "sent": 1}, done.stderr
            live.acknowledged.add(f"{live.events}/1/{3 * attempt - 1}")
            await_count(live, reader, 2 + attempt)
            newest = reader.outcomes[-1].message
            assert (newest.key(), newest.value()) == (b"k", b'{"id": "p", "x": "1"}')
            assert headers_of(newest)[:2] == [("trace", "t"), (Headers.ATTEMPTS, str(attempt))]
        done = ensemble("dead-letters", "replay", "-c", config)
        assert done.stdout.splitlines()[-1] == "1 tried often enough, so not sent"
        more = ensemble("dead-letters", "replay", "--max-attempts", "4", "--json", "-c", config)
        assert json.loads(more.stdout)["sent"] == 1
    finally:
        live.close()
