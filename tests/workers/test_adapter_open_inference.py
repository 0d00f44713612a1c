"""A model server that answers, misbehaves, goes and comes back, over real TCP."""

import contextlib
import logging
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from streams.errors import BundleError, ConfigurationError
from streams.instants import NS_PER_MS, MonotonicNs
from streams.settings import ModelSettings, RemoteSettings
from tests.workers.inference_server import POISON, SECRET, Server, shared_server, sigmoid_of_sum
from workers.adapters.open_inference import (
    COOL_DOWN_MS,
    FAILURES,
    MAX_REFUSED,
    Remote,
    RemoteModel,
    RequestError,
    load,
    save,
)
from workers.loading import load_model, warm
from workers.protocol import UnavailableError
from workers.scoring import called, score

TLS = Path(__file__).parent / "tls"
ROWS = np.random.default_rng(0).normal(size=(20, 3))
EXPECTED = np.array([sigmoid_of_sum(row) for row in ROWS.tolist()])
IN_TIME_MS = 20_000


class FakeClock:
    """Stands still until told otherwise; requests still have their real time."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> MonotonicNs:
        return MonotonicNs(self.now_ns)

    def wall_ms(self):
        raise AssertionError


def model(name: str = "sums", *, clock=None, features=("a", "b", "c"), **changes) -> RemoteModel:
    options = {"url": shared_server().url, "version": "1", "timeout_ms": IN_TIME_MS, **changes}
    server = RemoteSettings(model=name, **options)
    remote = Remote(server=server, features=features)
    return RemoteModel(remote, "m", "1", 0.0, 1.0, clock)


def judged(asked: RemoteModel, rows: np.ndarray = ROWS):
    return score(partial(called, asked.predict), rows, 0.0, 1.0)


# -- what it answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["matrix", "columns"])
@pytest.mark.parametrize("name", ["sums", "nested"])
def test_both_layouts_and_flat_and_nested_data(layout: str, name: str) -> None:
    np.testing.assert_allclose(model(name, layout=layout).predict(ROWS), EXPECTED, rtol=1e-12)


def test_a_named_output_is_asked_for() -> None:
    np.testing.assert_allclose(model("two", output="probabilities").predict(ROWS), EXPECTED)
    with pytest.raises(UnavailableError, match=r"2 outputs can be the score.*name it"):
        model("two").predict(ROWS)


def test_parameters_go_with_the_request() -> None:
    asked = model("content-type", parameters={"content_type": "pd"})
    np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)


@pytest.mark.parametrize("missing", ["null", "nan", 0.0])
def test_missing_values_arrive(missing) -> None:
    rows = ROWS.copy()
    rows[3, 1] = np.nan
    expected = [sigmoid_of_sum(row) for row in rows.tolist()]
    np.testing.assert_allclose(model(missing=missing).predict(rows), expected)


def test_large_batches_go_in_pieces_over_few_connections_that_are_kept() -> None:
    server = Server()
    try:
        asked = model("sums", url=server.url, max_rows=7, connections=2)
        for _ in range(5):
            np.testing.assert_allclose(asked.predict(np.tile(ROWS, (5, 1))), np.tile(EXPECTED, 5))
        seen = server.seen()
    finally:
        server.stop()
    assert seen["most_rows"] == {"sums": 7}
    assert seen["requests"] == {"sums": 5 * 15}
    assert seen["connections"] <= 2


def test_nothing_is_asked_about_no_rows() -> None:
    asked = model("hangs", timeout_ms=1)
    assert asked.predict(np.empty((0, 3))).shape == (0,)


def test_a_row_without_a_score_is_refused_alone() -> None:
    scores = judged(model("nan"))
    assert scores.refusals == {0: "returned NaN"}
    np.testing.assert_allclose(scores.values[1:], EXPECTED[1:])


# -- what goes wrong -----------------------------------------------------------------------------

WRONG = {
    "broken": "HTTP 503: out of memory",
    "page": "no response of the protocol: ",
    "cut-short": "no response of the protocol: ",
    "hangs-up": "the connection broke: Server disconnected without sending a response.",
    "short": "output 'probabilities': 39 numbers for shape [20, 2]",
    "other-rows": "output 'probabilities' has shape [1, 2] for 20 rows",
    "text": "output 'label' is BYTES; expected floats",
    "nothing": "0 outputs can be the score",
    "successor": "version '2' answered instead of '1'",
}


@pytest.mark.parametrize("name", WRONG)
def test_every_row_is_refused_with_the_reason_and_nobody_asks_again(name: str) -> None:
    asked = model(name)
    before = shared_server().seen()["requests"].get(name, 0)
    scores = judged(asked)
    assert np.isnan(scores.values).all()
    assert list(scores.refusals) == list(range(20))
    [reason] = set(scores.refusals.values())
    assert reason.startswith(f"unavailable: {WRONG[name]}")
    requests = shared_server().seen()["requests"][name] - before
    assert requests == (2 if name == "hangs-up" else 1)


def test_another_version_is_asked_for_by_name() -> None:
    assert set(judged(model(version="3")).refusals.values()) == {
        "unavailable: HTTP 404: no version 3 of sums"
    }


def test_nobody_there() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        asked = model(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        [reason] = set(judged(asked).refusals.values())
    assert reason.startswith("unavailable: cannot connect: ")


@pytest.mark.parametrize("name", ["hangs", "drips"])
def test_it_waits_no_longer_than_it_may(name: str) -> None:
    begun = time.monotonic()
    [reason] = set(judged(model(name, timeout_ms=200)).refusals.values())
    took = time.monotonic() - begun
    assert reason == "unavailable: no answer within 200 ms"
    assert 0.2 <= took < 5


def test_a_server_that_accepts_and_never_reads() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        asked = model(url=f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout_ms=100)
        assert set(judged(asked).refusals.values()) == {"unavailable: no answer within 100 ms"}


def test_a_connection_that_was_closed_while_idle_costs_nothing() -> None:
    asked = model("hangs-up-once")
    for _ in range(3):
        np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch) -> None:
    monkeypatch.setattr("workers.adapters.open_inference.MAX_ANSWER_BYTES", 10)
    assert set(judged(model("drips")).refusals.values()) == {
        "unavailable: an answer of more than 10 bytes"
    }


# -- single rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status"), [("picky", 400), ("picky-inside", 500)])
def test_a_row_that_the_server_refuses_is_found(name: str, status: int) -> None:
    rows = ROWS.copy()
    rows[13, 2] = POISON
    scores = judged(model(name), rows)
    assert scores.refusals == {13: f"raised RequestError: HTTP {status}: not this one"}
    np.testing.assert_allclose(np.delete(scores.values, 13), np.delete(EXPECTED, 13))


def test_a_server_that_refuses_everything_is_not_asked_row_by_row_for_ever() -> None:
    asked = model("refuses-all")
    rows = np.tile(ROWS, (100, 1))
    before = shared_server().seen()["requests"].get("refuses-all", 0)
    for _ in range(3):
        scores = judged(asked, rows)
        assert len(scores.refusals) == len(rows)
    [reason] = set(scores.refusals.values())
    assert reason.startswith("unavailable: ")
    assert "HTTP 400: unexpected datatype" in reason
    # Those of the last batch that were on their way already are answered as well.
    requests = shared_server().seen()["requests"]["refuses-all"] - before
    assert MAX_REFUSED < requests < MAX_REFUSED + FAILURES + 8


# -- a server that goes and comes back -----------------------------------------------------------


def test_a_server_that_fails_is_left_alone_for_a_while() -> None:
    clock = FakeClock()
    asked = model("broken", clock=clock)
    before = shared_server().seen()["requests"].get("broken", 0)
    for _ in range(10):
        with pytest.raises(UnavailableError):
            asked.predict(ROWS)
    assert shared_server().seen()["requests"]["broken"] - before == FAILURES
    with pytest.raises(UnavailableError, match="not asked, 3 requests in a row failed: HTTP 503"):
        asked.predict(ROWS)
    clock.now_ns += COOL_DOWN_MS * NS_PER_MS
    for _ in range(2):
        with pytest.raises(UnavailableError):
            asked.predict(ROWS)
    assert shared_server().seen()["requests"]["broken"] - before == FAILURES + 1


def test_it_comes_back_by_itself() -> None:
    server = Server()
    clock = FakeClock()
    asked = model(url=server.url, clock=clock)
    np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)
    server.stop()
    for _ in range(FAILURES + 1):
        with pytest.raises(UnavailableError, match=r"cannot connect|connection broke|not asked"):
            asked.predict(ROWS)
    again = Server("", "", str(server.port))
    try:
        clock.now_ns += COOL_DOWN_MS * NS_PER_MS
        np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)
    finally:
        again.stop()


def test_row_by_row_refusals_do_not_count_as_failures() -> None:
    asked = model("picky")
    for _ in range(FAILURES + 1):
        with pytest.raises(RequestError):
            asked.predict(np.full((1, 3), POISON))
    np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)


def test_threads_share_it() -> None:
    asked = model(max_rows=3)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)
        except BaseException as error:  # noqa: BLE001 -- shown below
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# -- readiness -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("sums", ""),
        ("absent", "not ready: HTTP 404: no absent here"),
        ("loading", "not ready: HTTP 503: no loading here"),
    ],
)
def test_it_says_whether_the_server_is_ready(name: str, problem: str) -> None:
    assert model(name).problem() == problem


def test_a_server_that_is_not_there_is_a_warning_at_the_start_and_no_more(caplog) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        settings = ModelSettings(name="far", remote={"url": url, "model": "x", "version": "9"})
        with caplog.at_level(logging.WARNING):
            loaded = load_model(settings, None)
            warm(loaded, 3)
    assert (loaded.name, loaded.version) == ("far", "9")
    assert "model far: cannot connect" in caplog.text
    assert "its rows are refused until the server answers" in caplog.text


# -- secrets and TLS -----------------------------------------------------------------------------


def test_secrets_come_from_the_environment_and_from_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TENANT", "a")
    (tmp_path / "token").write_text(SECRET + "\n")
    options = {"token": f"file:{tmp_path}/token", "headers": {"X-Tenant": "env:TENANT"}}
    np.testing.assert_allclose(model("secret", **options).predict(ROWS), EXPECTED)


def test_a_token_that_was_renewed_is_read_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TENANT", "a")
    token = tmp_path / "token"
    token.write_text("of yesterday")
    asked = model("secret", token=f"file:{token}", headers={"X-Tenant": "env:TENANT"})
    with pytest.raises(UnavailableError, match=r"HTTP 401: who are you\?"):
        asked.predict(ROWS)
    token.write_text(SECRET)
    np.testing.assert_allclose(asked.predict(ROWS), EXPECTED)


@pytest.mark.parametrize(
    ("changes", "place", "problem"),
    [
        ({"token": "env:NO_SUCH_VARIABLE"}, "token", "no variable `NO_SUCH_VARIABLE`"),
        ({"token": "file:no/such/file"}, "token", "file no/such/file cannot be read: No such"),
        ({"headers": {"X-A": "env:TWO_LINES"}}, "headers.X-A", "not one line of ASCII"),
    ],
)
def test_secrets_that_cannot_be_had_are_mistakes(changes, place, problem, monkeypatch) -> None:
    monkeypatch.setenv("TWO_LINES", "a\nb: c")
    with pytest.raises(ConfigurationError, match=problem) as caught:
        model(**changes)
    assert caught.value.place == f"models.m.remote.{place}"


def test_tls_with_an_authority_of_one_s_own() -> None:
    server = Server(str(TLS / "certificate.pem"), str(TLS / "key.pem"))
    try:
        trusting = model(url=server.url, ca=str(TLS / "certificate.pem"))
        np.testing.assert_allclose(trusting.predict(ROWS), EXPECTED)
        [reason] = set(judged(model(url=server.url)).refusals.values())
        assert "certificate verify failed" in reason.lower()
    finally:
        server.stop()


def test_certificates_that_cannot_be_read_are_mistakes() -> None:
    with pytest.raises(ConfigurationError, match="its certificates cannot be read"):
        model(url="https://127.0.0.1:1", ca="no/such/file")


# -- loading -------------------------------------------------------------------------------------


def test_what_is_saved_is_a_description_without_secrets(monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    server = RemoteSettings(url="http://h", model="m", version="1", token="env:TOKEN")
    data = save(Remote(server=server))
    assert SECRET.encode() not in data
    assert Remote.model_validate_json(data).server == server


def test_a_description_that_is_none() -> None:
    with pytest.raises(BundleError, match="no description of a model server"):
        load(b'{"server": {"url": "ftp://x"}}', name="m", version="1", minimum=0.0, maximum=1.0)


def test_a_client_that_is_not_installed_is_named_with_its_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    settings = ModelSettings(name="far", remote={"url": "http://h", "model": "x", "version": "9"})
    with pytest.raises(BundleError, match=r"'far' needs the library 'httpx'.*the extra `remote`"):
        load_model(settings, None)
