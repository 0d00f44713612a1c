"""A worker on a real broker whose model server goes and comes back: no event is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.embedded import EmbeddedKafka
from streams.settings import ModelSettings, Settings
from tests.workers.inference_server import Server, sigmoid_of_sum
from tests.workers.worker_kit import Live, Worker

MODELS = ["honest", "far"]


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Callable[..., str], tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def with_server(live: Live, url: str) -> Settings:
    settings = live.settings(["honest"])
    remote = {"url": url, "model": "sums", "version": "1", "timeout_ms": 2000}
    [worker] = settings.workers
    return settings.model_copy(
        update={
            "models": (*settings.models, ModelSettings(name="far", remote=remote)),
            "workers": (worker.model_copy(update={"models": tuple(MODELS)}),),
        }
    )


def test_a_server_that_goes_costs_refusals_and_no_event(live: Live) -> None:
    server = Server()
    live.workers.append(Worker(with_server(live, server.url), "", live.directory / "worker.log",
                               live.gate))  # fmt: skip
    try:
        live.write([0.25] * 40)
        live.read_answers(MODELS, 40)
        server.stop()
        live.write([0.75] * 400)
        live.read_answers(MODELS, 440)
        server = Server("", "", str(server.port))
        while not isinstance(live.answers("far")[live.written[-1]][0], float):
            live.write([0.5, 0.5])
            live.read_answers(MODELS, len(live.written))
    finally:
        server.stop()
    far, honest = live.answers("far"), live.answers("honest")
    assert set(far) == set(honest) == set(live.written)
    assert all(len(said) == 1 for said in (*far.values(), *honest.values()))
    for event in live.written[:40]:
        assert far[event] == [pytest.approx(sigmoid_of_sum([0.25]))]
    reasons = {far[event][0] for event in live.written[40:440]}
    assert all(str(reason).startswith("unavailable: ") for reason in reasons)
    assert all(isinstance(said[0], float) for said in honest.values())
