"""A client that has lost its brokers is told from one whose brokers are away."""

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from streams import lifeline as lifeline_module
from streams.errors import BrokerError
from streams.lifeline import Handover, Lifeline
from streams.settings import KafkaSettings

WAIT_S = 20.0


class Cluster:
    """Brokers that may be away, and a client that may have lost them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lifeline_module, "_EVERY_S", 0.01)
        self.away, self.client_is_lost, self.comes_later = True, False, False
        self.listens, self.times_told = False, 0
        self.failure, self.closed = KafkaError._TRANSPORT, False
        self.asked = self.asked_anew = 0
        self.problems: list[BrokerError] = []
        self.told = threading.Event()
        self.found = threading.Event()
        self.several = threading.Event()
        monkeypatch.setattr(lifeline_module, "bootstrap_again", self.tell)
        client = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
        self.lifeline = Lifeline(KafkaSettings(), client, self.ask, self.on_lost, self.ask_anew)

    def ask(self, _timeout_s: float) -> None:
        self.asked += 1
        if self.asked >= 5:
            self.several.set()
        if self.closed:
            raise RuntimeError("Handle has been closed")
        if self.away or self.client_is_lost:
            raise KafkaException(KafkaError(self.failure))
        self.found.set()

    def ask_anew(self, _timeout_s: float) -> None:
        self.asked_anew += 1
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        if self.comes_later:
            self.client_is_lost = False

    def tell(self, _client: Producer, _servers: str) -> None:
        self.times_told += 1
        if self.listens:
            self.client_is_lost = False

    def on_lost(self, problem: BrokerError) -> None:
        self.problems.append(problem)
        self.told.set()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch)
    yield cluster
    cluster.lifeline.close()


def test_brokers_that_are_away_are_waited_for_however_long(cluster: Cluster) -> None:
    assert cluster.several.wait(WAIT_S)
    assert not cluster.problems
    assert not cluster.times_told
    cluster.away = False
    assert cluster.found.wait(WAIT_S)
    cluster.lifeline.close()
    assert not cluster.problems


def test_a_client_that_does_not_find_them_again_is_given_up(cluster: Cluster) -> None:
    cluster.client_is_lost = True
    assert cluster.several.wait(WAIT_S)
    assert not cluster.problems
    cluster.away = False
    assert cluster.told.wait(WAIT_S)
    assert "has lost its brokers" in str(cluster.problems[0])
    assert cluster.asked_anew
    cluster.lifeline._thread.join(WAIT_S)
    assert (len(cluster.problems), cluster.times_told) == (1, 1)


def test_one_that_is_told_of_its_brokers_is_kept_as_often_as_it_loses_them(
    cluster: Cluster,
) -> None:
    cluster.away, cluster.listens = False, True
    for time in (1, 2):
        cluster.found.clear()
        cluster.client_is_lost = True
        assert cluster.found.wait(WAIT_S)
        assert cluster.times_told == time
    cluster.lifeline.close()
    assert not cluster.problems


def test_one_that_finds_them_late_is_kept(cluster: Cluster) -> None:
    """The new client is answered first; then the old one has its last chance."""
    cluster.client_is_lost = cluster.comes_later = True
    cluster.away = False
    assert cluster.found.wait(WAIT_S)
    cluster.lifeline.close()
    assert not cluster.problems


def test_one_whose_answers_are_slow_is_kept(cluster: Cluster) -> None:
    """On a slow way a request waits behind what is being fetched."""
    cluster.failure = KafkaError._TIMED_OUT
    cluster.client_is_lost = True
    cluster.away = False
    assert cluster.several.wait(WAIT_S)
    cluster.lifeline.close()
    assert not cluster.problems


def test_once_closed_it_asks_no_more(cluster: Cluster) -> None:
    assert cluster.several.wait(WAIT_S)
    cluster.lifeline.close()
    cluster.away = False
    assert not cluster.found.wait(0.1)


def test_a_client_that_was_closed_is_left_alone(cluster: Cluster) -> None:
    cluster.closed = True
    cluster.lifeline._thread.join(WAIT_S)
    assert not cluster.lifeline._thread.is_alive()
    assert not cluster.problems


class Owner:
    """Serves a handover without a pause, on a thread of its own, and asks on that thread only."""

    def __init__(self) -> None:
        self.asked_by: list[int | None] = []
        self.failure: KafkaException | None = None
        self.heard, self.ended = False, threading.Event()
        self.handover = Handover(self.ask)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def ask(self, _timeout_s: float) -> None:
        self.asked_by.append(threading.get_ident())
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        while not self.ended.is_set():
            self.handover.serve(heard=self.heard)


@pytest.fixture
def owner():
    owner = Owner()
    yield owner
    owner.ended.set()
    owner.thread.join(WAIT_S)


def test_the_owner_of_a_consumer_asks_and_the_other_thread_is_told(owner: Owner) -> None:
    owner.handover(1.0)
    assert owner.asked_by == [owner.thread.ident]
    owner.failure = KafkaException(KafkaError(KafkaError._TRANSPORT))
    with pytest.raises(KafkaException, match="_TRANSPORT"):
        owner.handover(1.0)
    owner.failure = None
    owner.handover(1.0)
    assert len(owner.asked_by) == 3


def test_who_hears_from_brokers_needs_not_ask(owner: Owner) -> None:
    owner.heard = True
    owner.handover(1.0)  # one that it may have begun before it heard anything
    owner.asked_by.clear()
    for _ in range(3):
        owner.handover(1.0)
    assert not owner.asked_by
    owner.heard = False
    owner.handover(1.0)
    owner.handover(1.0)
    assert owner.asked_by


def test_who_waits_for_an_owner_that_has_left_is_let_go() -> None:
    handover = Handover(lambda _timeout_s: None)
    threading.Timer(0.05, handover.close).start()
    with pytest.raises(RuntimeError, match="asks no more"):
        handover(1.0)
