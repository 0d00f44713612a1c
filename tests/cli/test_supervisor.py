"""The supervisor with real children: small programs that crash, hang, or simply run."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cli.restarts import PREDECESSOR_VARIABLE, RestartPolicy
from cli.supervisor import ChildStatus, Program, Supervisor
from streams.errors import BrokerError, ConfigurationError

WAIT_S = 30.0
NS_PER_MS = 1_000_000
QUICK = RestartPolicy(first_delay_ns=NS_PER_MS, longest_delay_ns=4 * NS_PER_MS, crashes=4)

# Ends at once when asked.
QUIET = "import signal; signal.pause()"
# Says that it is there, and ignores requests to end.
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("there", flush=True)
while True:
    signal.pause()
"""
# Drains: says what it did after it was asked to end.
DRAINING = """
import os, signal, sys
def drain(number, frame):
    os.write(1, b"drained\\n")  # print() may be under way in what was interrupted
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
print("there", flush=True)
while True:
    signal.pause()
"""


def python(code: str, name: str = "child", **options: object) -> Program:
    return Program(name, [sys.executable, "-I", "-S", "-c", code], **options)  # type: ignore[arg-type]


def ends_with(code: int, name: str = "child") -> Program:
    return python(f"import sys; sys.exit({code})", name)


def in_state(name: str, *states: str) -> Callable[[dict[str, ChildStatus]], bool]:
    return lambda found: found[name].state in states


def is_up_again(name: str, before: int | None) -> Callable[[dict[str, ChildStatus]], bool]:
    return lambda found: found[name].state == "running" and found[name].pid != before


def await_text(path: Path, text: str) -> None:
    """Wait until a child has written something."""
    pause = threading.Event()
    for _ in range(int(WAIT_S * 100)):
        if path.exists() and text in path.read_text():
            return
        pause.wait(0.01)
    raise AssertionError(f"{path} never held {text!r}")


class TestRestarts:
    def test_what_is_killed_is_started_again(self) -> None:
        with Supervisor([python(QUIET)], QUICK) as supervisor:
            first = supervisor.states()["child"].pid
            supervisor.kill("child")
            assert supervisor.wait_for(is_up_again("child", first), WAIT_S)
            status = supervisor.states()["child"]
            assert (status.restarts, status.exit_code) == (1, -signal.SIGKILL)

    def test_what_crashes_again_and_again_is_quarantined_and_the_others_go_on(self) -> None:
        with Supervisor([ends_with(1), python(QUIET, "other")], QUICK) as supervisor:
            assert supervisor.wait_for(in_state("child", "quarantined"), WAIT_S)
            states = supervisor.states()
            assert states["child"].restarts == QUICK.crashes - 1
            assert states["other"].state == "running"

    def test_a_wrong_configuration_is_not_tried_again(self) -> None:
        program = ends_with(ConfigurationError.exit_code)
        with Supervisor([program], QUICK) as supervisor:
            assert supervisor.wait_for(in_state("child", "failed"), WAIT_S)
            assert supervisor.states()["child"].restarts == 0
        assert supervisor.states()["child"].state == "failed", "closing does not hide why"

    def test_a_broker_that_is_away_is_waited_for(self) -> None:
        with Supervisor([ends_with(BrokerError.exit_code)], QUICK) as supervisor:
            assert supervisor.wait_for(
                lambda found: found["child"].restarts > 2 * QUICK.crashes, WAIT_S
            )

    def test_a_program_that_does_not_exist_fails(self) -> None:
        program = Program("child", ["no-such-program-anywhere"])
        with Supervisor([program], QUICK) as supervisor:
            assert supervisor.states()["child"].state == "failed"

    def test_a_quarantined_child_can_be_started_by_hand(self) -> None:
        with Supervisor([ends_with(1)], QUICK) as supervisor:
            assert supervisor.wait_for(in_state("child", "quarantined"), WAIT_S)
            restarts = supervisor.states()["child"].restarts
            supervisor.start("child")
            assert supervisor.wait_for(lambda found: found["child"].restarts > restarts, WAIT_S), (
                "a start by hand begins a new count"
            )

    def test_an_end_with_an_excuse_is_tried_again_for_ever(self) -> None:
        codes: list[int] = []

        def excuse(code: int) -> str:
            codes.append(code)
            return "something that the next one deals with"

        program = replace(ends_with(7), excuse=excuse)
        with Supervisor([program], QUICK) as supervisor:
            assert supervisor.wait_for(
                lambda found: found["child"].restarts > 2 * QUICK.crashes, WAIT_S
            )
        assert set(codes) == {7}

    def test_a_child_hears_how_the_one_before_it_ended(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        code = f"import os, sys; print(os.environ.get('{PREDECESSOR_VARIABLE}'), flush=True); "
        with Supervisor([python(code + "sys.exit(7)", log_path=log)], QUICK):
            await_text(log, "None\n7\n7\n")


class TestOnRequest:
    def test_a_stopped_child_stays_away_until_it_is_started(self) -> None:
        changes: list[tuple[str, str]] = []
        with Supervisor(
            [python(QUIET)], QUICK, on_change=lambda n, s: changes.append((n, s.state))
        ) as supervisor:
            supervisor.stop("child")
            assert supervisor.states()["child"] == ChildStatus("stopped", None, 0, -signal.SIGTERM)
            supervisor.start("child")
            assert supervisor.states()["child"].state == "running"
        assert [state for _, state in changes][:4] == ["running", "stopping", "stopped", "running"]

    def test_a_child_that_waits_for_its_restart_can_be_stopped(self) -> None:
        patient = RestartPolicy(first_delay_ns=3_600_000 * NS_PER_MS)
        with Supervisor([ends_with(1)], patient) as supervisor:
            assert supervisor.wait_for(in_state("child", "waiting"), WAIT_S)
            supervisor.stop("child")
            assert supervisor.states()["child"].state == "stopped"

    def test_starting_what_runs_changes_nothing(self) -> None:
        with Supervisor([python(QUIET)], QUICK) as supervisor:
            before = supervisor.states()
            supervisor.start("child")
            assert supervisor.states() == before

    def test_a_program_can_be_added_later(self) -> None:
        with Supervisor([], QUICK) as supervisor:
            supervisor.add(python(QUIET))
            assert supervisor.states()["child"].state == "running"

    def test_one_that_ignores_the_request_is_killed(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        with Supervisor([python(STUBBORN, log_path=log)], QUICK) as supervisor:
            await_text(log, "there")
            supervisor.stop("child", grace_s=0.05)
            assert supervisor.states()["child"].exit_code == -signal.SIGKILL


class TestTheEnd:
    def test_children_are_asked_to_end_and_may_drain(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        with Supervisor([python(DRAINING, log_path=log)], QUICK):
            await_text(log, "there")
        assert log.read_text() == "there\ndrained\n"

    def test_a_lower_tier_ends_last(self) -> None:
        ended: list[str] = []

        def note(name: str, status: ChildStatus) -> None:
            if status.state == "stopped":
                ended.append(name)

        programs = [python(QUIET, "broker", tier=0), python(QUIET, "worker")]
        with Supervisor(programs, QUICK, on_change=note):
            pass
        assert ended == ["worker", "broker"]

    def test_nothing_is_started_during_the_end(self) -> None:
        with Supervisor([ends_with(1)], RestartPolicy(crashes=10**9)) as supervisor:
            pass
        assert supervisor.states()["child"].state == "stopped"
        assert supervisor.states()["child"].pid is None

    def test_each_child_gets_its_environment(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        code = "import os; print(os.environ['WHO'], 'PATH' in os.environ, flush=True);" + QUIET
        with Supervisor([python(code, environment={"WHO": "me"}, log_path=log)], QUICK):
            await_text(log, "me True")


SUPERVISING = """
import os, signal, sys
from pathlib import Path
from cli.supervisor import Program, Supervisor
child = [sys.executable, "-I", "-S", "-c", sys.argv[1]]
programs = [Program(name, child, log_path=Path(os.devnull)) for name in "ab"]
with Supervisor(programs, grace_s=float(sys.argv[2])) as supervisor:
    print(*(status.pid for status in supervisor.states().values()), flush=True)
    signal.sigwait([signal.SIGUSR1])
"""


@pytest.mark.parametrize(("code", "grace_s"), [(QUIET, "20"), (STUBBORN, "0.1")])
def test_no_child_outlives_a_supervisor_that_was_killed(code: str, grace_s: str) -> None:
    command = [sys.executable, "-c", SUPERVISING, code, grace_s]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, WAIT_S)
        assert not alive


def test_a_guard_that_was_killed_is_replaced() -> None:
    with Supervisor([python(QUIET)], QUICK) as supervisor:
        guard = supervisor._guard._process
        assert guard is not None
        guard.kill()
        guard.wait()
        supervisor.add(python(QUIET, "second"))
        replacement = supervisor._guard._process
        assert replacement is not None
        assert replacement.poll() is None
        assert len(supervisor._guard._pids) == 2
