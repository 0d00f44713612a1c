"""Children of the fork server: what they are told, how they end, and what if the server does."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.children import COMMAND, ForkServer, Process, executed
from cli.restarts import RestartPolicy
from cli.supervisor import Program, Supervisor
from tests.cli.test_supervisor import await_text, is_up_again

# Runs until somebody ends it.
FOR_EVER = [*COMMAND, "simulate", "--seeds", "1000000"]
WAIT_S = 30.0


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    server = ForkServer(["xgboost", "lightgbm", "scikit-learn"])
    yield server
    server.close()


def start(forks: ForkServer, log: Path, *arguments: str, **environment: str) -> Process:
    return forks.start([*COMMAND, *arguments], environment, log)


def test_a_child_does_what_the_command_does_and_ends_with_its_code(
    forks: ForkServer, tmp_path: Path
) -> None:
    log, other = tmp_path / "forked.log", tmp_path / "executed.log"
    for arguments in (["--version"], ["nonsense"], ["check", "--config", "nowhere.toml"]):
        forked = start(forks, log, *arguments)
        usual = executed([*COMMAND, *arguments], {}, other)
        assert forked.wait() == usual.wait()
    assert log.read_text() == other.read_text()
    assert "stream-ensemble" in log.read_text()


def test_variables_reach_the_child(forks: ForkServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = start(forks, log, "simulate", "--seeds", "1", COLUMNS="40")
    assert child.wait() == 0
    assert max(map(len, log.read_text().splitlines())) <= 80


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_the_exit_code(
    forks: ForkServer, tmp_path: Path, number: signal.Signals
) -> None:
    child = forks.start(FOR_EVER, {}, tmp_path / "log")
    child.send_signal(number)
    assert child.wait() == -number
    child.send_signal(number)  # nobody is there to get it


def test_a_child_shows_its_name_and_has_a_session_of_its_own(
    forks: ForkServer, tmp_path: Path
) -> None:
    child = forks.start(FOR_EVER, {}, tmp_path / "log")
    process = psutil.Process(child.pid)
    pause = threading.Event()
    try:
        for _ in range(int(WAIT_S * 100)):
            if "simulate" in " ".join(process.cmdline()):
                break
            pause.wait(0.01)
        assert " ".join(process.cmdline()).startswith("ensemble simulate --seeds")
        assert os.getsid(child.pid) == child.pid
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_the_server_has_one_thread_so_that_forking_is_safe(
    forks: ForkServer, tmp_path: Path
) -> None:
    child = start(forks, tmp_path / "log", "--version")
    server = psutil.Process(child.pid).parent() if psutil.pid_exists(child.pid) else None
    child.wait()
    mine = psutil.Process().children()
    servers = [p for p in mine if "fork server" in " ".join(p.cmdline())]
    assert servers
    assert server is None or server in servers
    assert all(process.num_threads() == 1 for process in servers)


def test_children_end_with_a_server_that_is_killed_and_the_next_one_serves(tmp_path: Path) -> None:
    forks = ForkServer()
    child = forks.start(FOR_EVER, {}, tmp_path / "log")
    parent = psutil.Process(child.pid).parent()
    assert parent is not None
    parent.kill()
    assert child.wait() == -signal.SIGKILL
    assert start(forks, tmp_path / "log", "--version").wait() == 0
    forks.close()


def test_the_end_of_the_server_leaves_children_alone(tmp_path: Path) -> None:
    forks = ForkServer()
    child = forks.start(FOR_EVER, {}, tmp_path / "log")
    process = psutil.Process(child.pid)
    forks.close()
    assert process.is_running()
    process.kill()


def test_only_the_product_itself_is_forked(forks: ForkServer) -> None:
    assert forks.can_start(FOR_EVER)
    assert not forks.can_start(["/bin/true"])
    assert not forks.can_start([COMMAND[0], "-m", "cli"])


class TestSupervised:
    """A supervisor with a fork server."""

    def test_a_killed_child_is_forked_again(self, tmp_path: Path) -> None:
        program = Program("child", FOR_EVER, log_path=tmp_path / "log")
        with Supervisor([program], forks=ForkServer()) as supervisor:
            first = supervisor.states()["child"].pid
            assert first is not None
            assert psutil.Process(first).parent() != psutil.Process()
            supervisor.kill("child")
            assert supervisor.wait_for(is_up_again("child", first), WAIT_S)
            second = supervisor.states()["child"].pid
        assert second is not None
        assert not psutil.pid_exists(second)

    def test_without_a_server_children_are_executed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = tmp_path / "log"

        def broken(_self: ForkServer, *_arguments: object) -> Process:
            raise ChildProcessError("the fork server has ended")

        monkeypatch.setattr(ForkServer, "start", broken)
        program = Program("child", [*COMMAND, "--version"], log_path=log)
        with Supervisor([program], RestartPolicy(crashes=1), forks=ForkServer()):
            await_text(log, "stream-ensemble")
