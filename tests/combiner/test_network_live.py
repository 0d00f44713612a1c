"""A combiner behind a network that loses answers and goes away; everybody else has a good one."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.goals.network import Transactions
from chaos.proxy import END_TXN, INIT_PRODUCER_ID, LOOPBACK, Proxy, Toxics, Treatment
from streams.embedded import EmbeddedKafka, Listener
from streams.embedded.child import free_ports
from streams.settings import Settings
from tests.combiner.live_kit import Live, Verdict, wait_for
from tests.conftest import Topics

RATE_PER_S = 500
CLEAN = Verdict()
# Longer than a transaction may last, shorter than what the combiner waits for a new producer.
AWAY_S = 12.0


@dataclass
class Behind:
    """The proxy, and a live kit whose combiners are behind it."""

    proxy: Proxy
    live: Live

    def settings(self) -> Settings:
        return self.live.settings(
            combiner={"delivery": "exactly_once", "deadline_ms": 3000},
            kafka={"bootstrap_servers": f"{LOOPBACK}:{self.proxy.port}"},
        )


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, EmbeddedKafka]]:
    port, listening = free_ports(2)
    behind = Listener("PROXIED", [listening], [port])
    place = tmp_path_factory.mktemp("kafka")
    with (
        Proxy(listening, port=port, kafka=True) as proxy,
        EmbeddedKafka(place, listeners=[behind]) as kafka,
    ):
        yield proxy, kafka


@pytest.fixture
def behind(way: tuple[Proxy, EmbeddedKafka], tmp_path: Path) -> Iterator[Behind]:
    proxy, kafka = way
    live = Live(kafka.bootstrap_servers, Topics(kafka.bootstrap_servers), tmp_path)
    yield Behind(proxy, live)
    live.close()
    proxy.heal()


@pytest.mark.parametrize("kind", ["swallow", "cut"])
def test_a_commit_without_an_answer_counts_once(behind: Behind, kind: str) -> None:
    live, proxy, transactions = behind.live, behind.proxy, Transactions()
    proxy.on_request = transactions.on_request
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    live.start(behind.settings())
    live.await_more(reader, 200)
    made, treated = proxy.seen[INIT_PRODUCER_ID], proxy.treated[END_TXN]
    treatment = Treatment("swallow" if kind == "swallow" else "cut", times=1)
    proxy.set(Toxics(replies={END_TXN: treatment}))
    wait_for(lambda: proxy.treated[END_TXN] > treated, lambda: "no commit came by")
    if kind == "swallow":
        transactions.give_up()
        # Nobody heard how it ended: the next one has another epoch.
        wait_for(lambda: proxy.seen[INIT_PRODUCER_ID] > made, live.processes[-1].said)
    live.await_more(reader, 500)
    load.close()
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert transactions.reused == []
    assert live.processes[-1].stop() == 0


def test_a_broker_that_cannot_be_reached_for_a_while_costs_time_alone(behind: Behind) -> None:
    live, proxy = behind.live, behind.proxy
    reader = live.reader()
    live.models("a", "b")
    load = live.load(RATE_PER_S)
    settings = behind.settings()
    live.start(settings)
    live.await_more(reader, 200)
    proxy.set(Toxics(refuse=True))
    proxy.cut()
    threading.Event().wait(AWAY_S)
    proxy.heal()
    live.await_more(reader, int(AWAY_S * RATE_PER_S), restarting=settings)
    load.close()
    live.await_outcomes(reader, restarting=settings)
    assert live.verdicts(reader) == (CLEAN, CLEAN)
    assert {outcome.record["fallback"] for outcome in reader.outcomes} == {"none"}
    # It did not take the broker's impatience for a second process.
    assert "another process has this slot" not in live.processes[-1].said()
