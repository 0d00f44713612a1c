"""The fault proxy: what it does to bytes, to connections, and to single APIs of Kafka."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from chaos.proxy import END_TXN, INIT_PRODUCER_ID, LOOPBACK, Proxy, Toxics, Treatment
from streams.embedded import EmbeddedKafka, Listener
from streams.embedded.child import free_ports
from tests.conftest import Topics

PATIENCE_S = 20.0
# Long enough that something which should not come would have come.
SHORT_S = 0.15


class Echo:
    """Answers each connection with what it hears."""

    def __init__(self) -> None:
        self._server = socket.create_server((LOOPBACK, 0))
        self.port: int = self._server.getsockname()[1]
        self.heard = threading.Event()
        self.lost = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.heard.set()
                    connection.sendall(data)
            except OSError:
                pass
        self.lost.set()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


def connected(proxy: Proxy, timeout_s: float = PATIENCE_S) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=timeout_s)


def asked(client: socket.socket, data: bytes) -> bytes:
    """Send, and read as much back."""
    client.sendall(data)
    got = b""
    while len(got) < len(data):
        part = client.recv(65_536)
        if not part:
            raise ConnectionError("closed")
        got += part
    return got


def test_what_passes_is_unchanged(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4000
    with connected(proxy) as client:
        assert asked(client, data) == data


def test_a_closed_end_closes_the_other(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        asked(client, b"x")
    assert echo.lost.wait(PATIENCE_S)


def test_nobody_behind_it_is_a_reset(proxy: Proxy, echo: Echo) -> None:
    proxy.target_port = free_ports(1)[0]
    # Reset at once, it may be reset before `connect` returns.
    with pytest.raises(ConnectionResetError), connected(proxy) as client:
        asked(client, b"x")


def test_refuse_and_heal_on_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    with connected(proxy) as client:
        asked(client, b"x")
        proxy.set(Toxics(refuse=True))
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        assert asked(client, b"old ones stay") == b"old ones stay"
    proxy.heal()
    assert proxy.port == port
    with connected(proxy) as client:
        assert asked(client, b"x") == b"x"


def test_cut_resets_both_ends_and_lets_new_ones_in(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as client:
        asked(client, b"x")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert echo.lost.wait(PATIENCE_S)
    with connected(proxy) as client:
        assert asked(client, b"x") == b"x"


def test_hang_accepts_and_says_nothing_until_it_is_over(proxy: Proxy) -> None:
    with connected(proxy) as old:
        asked(old, b"x")
        proxy.set(Toxics(hang=True))
        with connected(proxy) as new:
            for client in (old, new):
                client.settimeout(SHORT_S)
                with pytest.raises(TimeoutError):
                    asked(client, b"y")
                client.settimeout(PATIENCE_S)
            proxy.heal()
            assert old.recv(1) == b"y"
            assert new.recv(1) == b"y"


def test_half_open_the_server_is_gone_and_the_client_does_not_know(
    proxy: Proxy, echo: Echo
) -> None:
    with connected(proxy) as client:
        asked(client, b"x")
        proxy.half_open()
        assert echo.lost.wait(PATIENCE_S)
        client.settimeout(SHORT_S)
        with pytest.raises(TimeoutError):
            asked(client, b"is anybody there?")
        with connected(proxy) as new:
            assert asked(new, b"x") == b"x"


def test_latency_counts_in_both_directions_and_keeps_the_order(proxy: Proxy) -> None:
    proxy.set(Toxics(latency_ms=50, jitter_ms=20))
    with connected(proxy) as client:
        began_s = time.monotonic()
        assert asked(client, b"x") == b"x"
        assert time.monotonic() - began_s >= 0.1
        data = b"".join(b"%05d" % number for number in range(2000))
        assert asked(client, data) == data


def test_bandwidth(proxy: Proxy) -> None:
    proxy.set(Toxics(bytes_per_s=400_000))
    with connected(proxy) as client:
        began_s = time.monotonic()
        asked(client, b"x" * 100_000)
        assert time.monotonic() - began_s >= 0.25


def request(api: int, correlation: int, body: bytes = b"") -> bytes:
    frame = struct.pack(">hhi", api, 1, correlation) + body
    return struct.pack(">i", len(frame)) + frame


def reply(correlation: int, body: bytes = b"") -> bytes:
    frame = struct.pack(">i", correlation) + body
    return struct.pack(">i", len(frame)) + frame


@pytest.fixture
def broker() -> Iterator[socket.socket]:
    """A listening socket; the test plays the broker itself."""
    with socket.create_server((LOOPBACK, 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server


class TestKafkaFrames:
    def test_one_api_is_swallowed_and_the_rest_passes(self, broker: socket.socket) -> None:
        seen: list[tuple[int, int, bytes]] = []
        with (
            Proxy(broker.getsockname()[1], kafka=True, on_request=lambda *r: seen.append(r)) as way,
            connected(way) as client,
        ):
            way.set(
                Toxics(
                    requests={12: Treatment("swallow")},
                    replies={26: Treatment("swallow", times=1)},
                )
            )
            frames = [request(26, 1, b"commit"), request(12, 2), request(26, 3), request(0, 4)]
            # In pieces that are no frames.
            sent = b"".join(frames)
            for start in range(0, len(sent), 5):
                client.sendall(sent[start : start + 5])
            server, _ = broker.accept()
            with server:
                arriving = frames[0] + frames[2] + frames[3]
                got = b""
                while len(got) < len(arriving):
                    got += server.recv(1000)
                assert got == arriving
                server.sendall(reply(1, b"done") + reply(3, b"done") + reply(4))
                expected = reply(3, b"done") + reply(4)
                got = b""
                while len(got) < len(expected):
                    got += client.recv(1000)
                assert got == expected
            assert way.seen == {26: 2, 12: 1, 0: 1}
            assert way.treated == {12: 1, 26: 1}
            assert seen[0] == (26, 1, frames[0][4:])

    def test_a_late_reply_holds_up_what_follows(self, broker: socket.socket) -> None:
        with Proxy(broker.getsockname()[1], kafka=True) as way, connected(way) as client:
            way.set(Toxics(replies={26: Treatment("delay", ms=150)}))
            client.sendall(request(0, 1) + request(26, 2) + request(0, 3))
            server, _ = broker.accept()
            with server:
                began_s = time.monotonic()
                server.sendall(reply(1) + reply(2) + reply(3))
                assert client.recv(8) == reply(1)
                assert client.recv(8) == reply(2)
                assert time.monotonic() - began_s >= 0.15
                assert client.recv(8) == reply(3)

    def test_a_cut_reply_resets_its_connection(self, broker: socket.socket) -> None:
        with Proxy(broker.getsockname()[1], kafka=True) as way, connected(way) as client:
            way.set(Toxics(replies={26: Treatment("cut")}))
            client.sendall(request(26, 1))
            server, _ = broker.accept()
            with server:
                server.recv(1000)
                server.sendall(reply(1))
                with pytest.raises(ConnectionResetError):
                    client.recv(1)


def committed(servers: str, topic: str) -> list[bytes | None]:
    """What a `read_committed` consumer sees of partition 0."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "g", "isolation.level": "read_committed"}
        | {"enable.partition.eof": True}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found = []
        while (message := consumer.poll(PATIENCE_S)) is not None and message.error() is None:
            found.append(message.value())
        return found
    finally:
        consumer.close()


def test_a_transaction_whose_commit_is_never_answered(tmp_path: Path) -> None:
    """Through a listener whose advertised address is the proxy's; others go straight."""
    port, listening = free_ports(2)
    behind = Listener("PROXIED", [listening], [port])
    with (
        Proxy(listening, port=port, kafka=True) as proxy,
        EmbeddedKafka(tmp_path / "kafka", listeners=[behind]) as kafka,
    ):
        topic = Topics(kafka.bootstrap_servers)("scored")
        producer = Producer(
            {"bootstrap.servers": f"{LOOPBACK}:{port}", "transactional.id": "t", "log_level": 0}
        )
        producer.init_transactions(PATIENCE_S)
        proxy.set(Toxics(replies={END_TXN: Treatment("swallow")}))
        producer.begin_transaction()
        producer.produce(topic, b"first")
        with pytest.raises(KafkaException):
            producer.commit_transaction(1.0)
        assert proxy.seen[INIT_PRODUCER_ID] >= 1
        assert proxy.treated[END_TXN] == 1
        # The broker has done what was asked, though nobody heard of it.
        assert committed(kafka.bootstrap_servers, topic) == [b"first"]
