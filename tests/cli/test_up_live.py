"""Everything at once: `ensemble broker` and `ensemble up`, with real processes."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from registry.bundle import LoadedBundle
from streams.embedded import EmbeddedKafka
from streams.embedded.child import free_ports
from tests.cli.cli_kit import WAIT_S, Running, ensemble, running, write_config
from tests.conftest import Topics

UP_TIMEOUT_S = 120.0


def configure(directory: Path, servers: str, topics: Topics, bundle: LoadedBundle) -> Path:
    models = "".join(f'[[models]]\nname = "{m.name}"\n' for m in bundle.manifest.models)
    hosted = ", ".join(f'"{m.name}"' for m in bundle.manifest.models)
    workers = f'[[workers]]\nname = "all"\nmodels = [{hosted}]'
    path = write_config(directory, servers, topics, '[event]\nid = "id"', models + workers)
    path.write_text(
        path.read_text().replace("[ensemble]", f'[ensemble]\nbundle = "{bundle.directory}"')
    )
    return path


def children(command: Running) -> list[psutil.Process]:
    return psutil.Process(command.process.pid).children(recursive=True)


def test_the_broker_command_serves_says_where_and_ends(tmp_path: Path) -> None:
    arguments = ("--directory", tmp_path, "--port", "0", "--redis-port", "0")
    with running("broker", *arguments) as command:
        servers = command.await_line("kafka ").split()[1]
        assert command.await_line("redis ").split()[1].startswith("redis://127.0.0.1:")
        assert AdminClient({"bootstrap.servers": servers}).list_topics(timeout=WAIT_S).brokers
        inside = children(command)
        assert command.terminate() == 0
        assert not psutil.wait_procs(inside, WAIT_S)[1]


def test_up_starts_everything_heals_and_drains(
    tmp_path: Path, topics: Topics, bundle: LoadedBundle, data_file: Path
) -> None:
    [port] = free_ports(1)
    config = configure(tmp_path, f"127.0.0.1:{port}", topics, bundle)
    arguments = ("--embedded", "--directory", tmp_path / "run", "-c", config)
    with running("up", *arguments) as command:
        command.await_line("all reads", UP_TIMEOUT_S)
        assert ensemble("produce", data_file, "--rate", "200", "-c", config).returncode == 0
        done = ensemble("consume", "--json", "--follow", "-n", "400", "-c", config)
        scored = [json.loads(line) for line in done.stdout.splitlines()]
        assert len({record["id"] for record in scored}) == 400
        [worker] = [p for p in children(command) if "worker" in p.cmdline()]
        worker.kill()
        command.await_line("worker-all-0: killed by SIGKILL; again in 0.1 s")
        command.await_line("all reads", UP_TIMEOUT_S)
        inside = children(command)
        assert command.terminate() == 0
        assert not psutil.wait_procs(inside, WAIT_S)[1]


def test_up_that_is_killed_leaves_nobody_behind(
    tmp_path: Path, kafka: EmbeddedKafka, topics: Topics, bundle: LoadedBundle
) -> None:
    config = configure(tmp_path, kafka.bootstrap_servers, topics, bundle)
    assert ensemble("topics", "create", "-c", config).returncode == 0
    with running("up", "-c", config) as command:
        command.await_line("all reads", UP_TIMEOUT_S)
        inside = children(command)
        assert len(inside) >= 4  # worker, combiner, monitor, guard
        os.kill(command.process.pid, signal.SIGKILL)
        assert not psutil.wait_procs(inside, WAIT_S)[1]


def test_up_ends_when_nothing_is_left_to_supervise(
    tmp_path: Path, kafka: EmbeddedKafka, topics: Topics, bundle: LoadedBundle
) -> None:
    config = configure(tmp_path, kafka.bootstrap_servers, topics, bundle)
    assert ensemble("topics", "create", "-c", config).returncode == 0
    # An address of nobody's: no process can show its metrics there.
    done = ensemble("up", "-c", config, environment={"ENSEMBLE__METRICS__HOST": "192.0.2.1"})
    assert done.returncode == 2
    assert done.stderr.count("another start cannot help") == 3


@pytest.mark.parametrize("missing", ["bundle", "configuration"])
def test_up_without_what_it_needs_is_one_line(tmp_path: Path, missing: str) -> None:
    config = tmp_path / "ensemble.toml"
    if missing == "bundle":
        config.write_text('[[models]]\nname = "a"\nexternal = true')
    done = ensemble("up", "-c", config)
    assert done.returncode == {"bundle": 3, "configuration": 2}[missing]
    assert len(done.stderr.splitlines()) == 1
