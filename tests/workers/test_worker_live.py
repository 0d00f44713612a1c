"""A worker process from outside: events in, frames out, through stops, crashes and hangs."""

import os
import re
import signal
import threading
import urllib.request
from pathlib import Path

import pytest

from streams.embedded import EmbeddedKafka
from streams.errors import BrokerError, FencedError
from tests.conftest import Topics
from tests.workers.fake_models import HANGS, HOLDS, NAN, RAISES
from tests.workers.worker_kit import Live
from workers.watchdog import EXIT_HUNG

# What anybody may write to the control topic; none of it pauses anybody.
BAD_CONTROL = [
    b"",
    b"{broken",
    b"\xff\xfe",
    b"[]",
    b'"honest"',
    b'{"model": "moody"}',
    b'{"model": "moody", "paused": 1}',
    b'{"model": ["moody"], "paused": true}',
    b'{"model": "moody", "paused": true, "weight": 2}',
    b'{"model": ' + b"[" * 100_000,
    bytes(900_000),
]


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path):
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def scrape(live: Live, path: str = "metrics") -> str:
    port = re.findall(r"port (\d+)", (live.directory / "worker.log").read_text())[-1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
        return answer.read().decode()


def test_each_model_answers_each_event_and_refuses_what_it_cannot(live: Live):
    live.start(["honest", "moody"], nice=4)
    xs = [i / 100 for i in range(100)] + [RAISES, NAN, 7.0]
    live.write(xs)
    live.read_answers(["honest", "moody"], len(xs))
    expected = dict(zip(live.written, xs, strict=True))
    honest, moody = live.answers("honest"), live.answers("moody")
    for event, x in expected.items():
        assert set(honest[event]) == ({x} if x <= 1 else {"7 outside [0, 1]"})
        if x not in {RAISES, NAN, 7.0}:
            assert set(moody[event]) == {x}
    assert set(moody[live.written[-3]]) == {"raised ValueError: not this one"}
    assert set(moody[live.written[-2]]) == {"returned NaN"}
    assert {frame.version for frame in live.frames} == {"1"}
    page = scrape(live)
    assert f'ensemble_worker_events_total{{worker="w"}} {len(xs):.1f}' in page
    assert 'ensemble_refusals_total{model="moody",reason="raised"} 1.0' in page
    assert 'ensemble_predictions_total{model="honest"}' in page
    assert scrape(live, "readyz") == "ready\n"
    others = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, live.workers[0].process.pid) == min(19, others + 4)


def test_bad_events_are_passed_over_and_committed(live: Live):
    worker = live.start(["honest"])
    live.write([b"not json", b"{}", 0.5, 0.5, b"[]", b'{"x": "1"}'])
    live.read_answers(["honest"], 2)
    assert worker.stop() == 0
    assert sorted(live.answers("honest")) == [(0, 1), (1, 1)]
    assert live.committed() == [3, 3]


def test_a_lone_event_is_answered_alone(live: Live):
    live.start(["honest"])
    live.write([0.1])
    live.read_answers(["honest"], 1)
    for count in range(2, 6):
        live.write([0.1])
        live.read_answers(["honest"], count)
    assert [len(frame.offsets) for frame in live.frames] == [1] * 5
    # It waits for nobody: generous, as the machine may be busy.
    assert min(frame.timing.queue_ms for frame in live.frames[1:]) < 50


def test_a_backlog_is_answered_in_large_batches(live: Live):
    live.write([0.5] * 20_000)
    live.start(["honest", "slow"])
    live.read_answers(["honest", "slow"], 20_000)
    sizes = [len(frame.offsets) for frame in live.frames if frame.model == "slow"]
    assert max(sizes) >= 1000


def test_sigterm_finishes_what_was_read_and_nothing_is_scored_twice(live: Live):
    live.write([0.5] * 3000)
    tuning = {"fetch_records": 100, "max_batch": 50, "max_backlog": 200}
    worker = live.start(["honest", "slow"], **tuning)
    live.read_answers(["slow"], 300)
    assert worker.stop() == 0
    committed = sum(live.committed())
    assert 300 <= committed < 3000
    live.start(["honest", "slow"], **tuning)
    live.read_answers(["honest", "slow"], 3000)
    for model in ("honest", "slow"):
        assert {len(said) for said in live.answers(model).values()} == {1}


def test_after_a_crash_unanswered_events_are_read_again(live: Live):
    worker = live.start(["honest", "gated"], "0")
    live.write([0.5] * 10)
    live.read_answers(["honest"], 10)
    worker.kill()
    assert live.answers("gated") == {}
    live.gate.touch()
    live.start(["honest", "gated"], "0")
    live.read_answers(["gated"], 10)
    live.read_until(lambda: all(len(said) == 2 for said in live.answers("honest").values()))


def test_a_paused_model_refuses_until_it_is_resumed(live: Live):
    live.control("honest", paused=False)
    live.control("honest", paused=True)
    live.control("unheard-of", paused=True)
    for bad in BAD_CONTROL:
        live.control_bytes(b"moody", bad)
    live.control_bytes(b"forgotten", None)
    live.start(["honest", "moody"])

    def said(model: str) -> object:
        last = live.written[-1]
        return live.answers(model).get(last, [None])[-1]

    def write_until(model: str, wanted: object) -> None:
        """The control topic is read beside the events: its word counts as soon as it is read."""
        answer = None
        while answer != wanted:
            live.write([0.5])
            live.read_until(lambda: said("honest") is not None and said("moody") is not None)
            answer = said(model)

    write_until("honest", "paused")
    assert said("moody") == 0.5
    live.control("honest", paused=False)
    write_until("honest", 0.5)
    live.control("moody", paused=True)
    write_until("moody", "paused")
    counted = re.findall(r'bad_control_total{worker="w"} (\S+)', scrape(live))
    assert counted == [f"{len(BAD_CONTROL)}.0"]


@pytest.mark.parametrize(("x", "code"), [(HANGS, EXIT_HUNG), (HOLDS, 1)])
def test_a_model_that_hangs_ends_the_process(live: Live, x: float, code: int):
    worker = live.start(["honest", "hangs"], hang_ms=1500)
    live.write([0.1, 0.1])
    live.read_answers(["honest", "hangs"], 2)
    live.write([x])
    assert worker.wait() == code
    log = worker.log.read_text()
    assert "fake_models.py" in log
    if x == HANGS:
        assert "model hangs did not answer within 1500 ms" in log
        assert live.committed() == [1, 1]


def test_a_stuck_model_does_not_hold_up_the_others(live: Live):
    live.write([0.5] * 2000)
    live.start(["honest", "gated"], hang_ms=60_000, max_backlog=100, fetch_records=100)
    live.read_answers(["honest"], 2000)
    live.gate.touch()
    live.read_answers(["gated"], 2000)
    said = {answer for each in live.answers("gated").values() for answer in each}
    assert said == {0.5, "overloaded"}


def test_two_processes_share_the_partitions(live: Live):
    first = live.start(["honest"], "0")
    live.write([0.1] * 10)
    live.read_answers(["honest"], 10)
    second = live.start(["honest"], "1")
    one_each = re.compile(r"w reads \[\('[^']*', \d\)\]")
    live.read_until(lambda: len(one_each.findall(first.log.read_text())) == 2)
    live.write([0.1] * 10)
    live.read_answers(["honest"], 20)
    assert second.stop() == 0
    assert first.stop() == 0
    assert sum(live.committed()) == 20


def test_a_process_that_stands_still_holds_up_no_other_partition(live: Live):
    workers = [live.start(["honest"], slot) for slot in ("0", "1")]
    one_each = re.compile(r"w reads \[\('[^']*', (\d)\)\]")
    live.read_until(lambda: len(one_each.findall(workers[0].log.read_text())) == 2)
    workers[0].process.send_signal(signal.SIGSTOP)
    try:
        live.write([0.1] * 20)
        live.read_answers(["honest"], 10)
        assert len({partition for partition, _ in live.answers("honest")}) == 1
    finally:
        workers[0].process.send_signal(signal.SIGCONT)
    live.read_answers(["honest"], 20)


def test_a_model_that_is_too_slow_is_left_behind(live: Live):
    """More comes in than one of two models can do; the other one answers everything."""
    worker = live.start(["honest", "slow"], max_backlog=20, max_batch=2, fetch_records=10)
    live.write([0.1])
    live.read_answers(["honest", "slow"], 1)
    while "slow is too slow" not in worker.log.read_text():
        live.write([0.5] * 20)
        live.read_until(lambda: True)
        threading.Event().wait(0.05)
    live.write([0.5] * 1000)
    live.read_answers(["honest", "slow"], len(live.written))
    said = {answer for each in live.answers("slow").values() for answer in each}
    assert said == {0.1, 0.5, "overloaded"}
    assert {answer for each in live.answers("honest").values() for answer in each} == {0.1, 0.5}


def test_a_second_process_of_one_slot_takes_its_place(live: Live):
    first = live.start(["honest"], "0")
    live.write([0.1])
    live.read_answers(["honest"], 1)
    live.start(["honest"], "0")
    assert first.wait() == FencedError.exit_code, first.log.read_text()
    live.write([0.1])
    live.read_until(lambda: len(live.answers("honest")) == 2)


def test_a_topic_that_is_missing_or_does_not_match_is_named(live: Live, topics: Topics):
    live.topics["control"] = topics.prefix + "nowhere"
    worker = live.start(["honest"])
    assert worker.wait() == BrokerError.exit_code
    assert f"topic {topics.prefix}nowhere does not exist" in worker.log.read_text()
    live.topics["control"] = topics("more-control")
    live.topics["predictions"] = topics("narrow", 1)
    assert live.start(["honest"]).wait() == BrokerError.exit_code
    assert "has 2 partitions and" in worker.log.read_text()


def test_a_broker_that_restarts_is_waited_for(tmp_path: Path):
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        live = Live(kafka.bootstrap_servers, Topics(kafka.bootstrap_servers), tmp_path)
        try:
            workers = [live.start(["honest"], "0")]

            def all_done() -> bool:
                # An answer to its joining that was lost costs a process its place in the group;
                # a supervisor starts it again.
                if workers[-1].process.poll() == BrokerError.exit_code:
                    workers.append(live.start(["honest"], "0"))
                return len(live.answers("honest")) == 20 and sum(live.committed()) == 20

            live.write([0.1] * 10)
            live.read_answers(["honest"], 10)
            kafka.stop()
            kafka.start()
            live.write([0.1] * 10)
            # A broker that has just come back refuses commits at first, and nothing new comes.
            live.read_until(all_done)
            assert workers[-1].stop() == 0
        finally:
            live.close()
