"""The processes of a stage, one by one: signals, states, pages, logs, memory."""

import logging
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from chaos.reader import TIMEOUT_S, wait_for
from cli.supervisor import ChildStatus, Program, Supervisor

log = logging.getLogger(__name__)


class Processes:
    """What a stage can do to its processes; names are those of the supervisor.

    Attributes:
        directory: where everything lives.
        supervisor: of all processes.
        ended: every end of a process: its program, and its exit code.
    """

    directory: Path
    supervisor: Supervisor
    _programs: Sequence[Program]
    _environment: Mapping[str, str]
    _fault: Path

    def __init__(self) -> None:
        self.ended: list[tuple[str, int | None]] = []

    def _on_change(self, name: str, status: ChildStatus) -> None:
        if status.state != "running" and status.pid is None:
            self.ended.append((name, status.exit_code))
            if (status.exit_code or 0) > 0:
                last = self.log(name).strip().rpartition("\n")[2]
                log.warning("%s ended with code %d: %s", name, status.exit_code, last)

    def names(self, role: str = "") -> list[str]:
        """The programs whose names begin so: `worker`, `combiner`, `monitor`; or all."""
        return [program.name for program in self._programs if program.name.startswith(role)]

    def states(self) -> dict[str, ChildStatus]:
        """Every process as the supervisor sees it."""
        return self.supervisor.states()

    def program(self, name: str) -> Program:
        """How a process is started."""
        return next(program for program in self._programs if program.name == name)

    def pid(self, name: str) -> int:
        """Its number; waits until it runs."""
        self.await_running(name)
        found = self.states()[name].pid
        return found if found is not None else self.pid(name)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process, waiting for it to run; its number."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def kill(self, name: str) -> int:
        """SIGKILL; the supervisor starts it again."""
        return self.signal(name, signal.SIGKILL)

    def terminate(self, name: str) -> int:
        """SIGTERM; the supervisor starts it again, as it was not the supervisor that asked."""
        return self.signal(name, signal.SIGTERM)

    def freeze(self, name: str) -> int:
        """SIGSTOP."""
        return self.signal(name, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """SIGCONT."""
        os.kill(pid, signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Stop it as `ensemble up` would, and start it again."""
        self.supervisor.stop(name)
        self.supervisor.start(name)

    @contextmanager
    def beside(self, name: str, slot: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """One more process like this one, with its slot or another one; killed behind the block."""
        ours = list(self.program(name).command)
        ours[ours.index("--metrics-port") + 1] = "0"
        if slot is not None:
            ours[ours.index("--slot") + 1] = slot
        path = self.directory / "logs" / f"{name}-beside.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                ours,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def unwrap(self) -> None:
        """Processes inside the wrapper are as they should be from their next start on."""
        self._fault.unlink()

    def await_running(self, name: str) -> None:
        """Wait until the supervisor has it running."""
        reached = self.supervisor.wait_for(lambda s: s[name].state == "running", TIMEOUT_S)
        if not reached:
            raise AssertionError(f"{name} does not run: {self.states()[name]}\n{self.log(name)}")

    def await_end(self, name: str, pid: int, timeout_s: float = TIMEOUT_S) -> int | None:
        """Wait until a process is gone and the supervisor has noticed; its exit code."""
        reached = self.supervisor.wait_for(lambda s: s[name].pid != pid, timeout_s)
        if not reached:
            raise AssertionError(f"{name} ({pid}) is still there\n{self.log(name)}")
        return self.states()[name].exit_code

    def await_ready(self, *names: str) -> None:
        """Wait until these processes, or all but the monitor, say that they work."""
        for name in names or self.names("worker") + self.names("combiner"):
            wait_for(partial(self._ready_or_gone, name), partial(self.log, name))

    def _ready_or_gone(self, name: str) -> bool:
        if self.states()[name].state in {"failed", "quarantined"}:
            raise AssertionError(f"{name} was given up\n{self.log(name)}")
        return self.ready(name)

    def ready(self, name: str) -> bool:
        """Whether its page says that it works."""
        try:
            with urllib.request.urlopen(f"{self._page(name)}/readyz", timeout=1) as answer:  # noqa: S310 -- our own page
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name: str, line: str) -> float:
        """The sum of a process's values whose names and labels begin so; 0 without any."""
        with urllib.request.urlopen(f"{self._page(name)}/metrics", timeout=5) as answer:  # noqa: S310 -- as above
            page = answer.read().decode()
        return sum(
            float(found.rpartition(" ")[2]) for found in page.splitlines() if found.startswith(line)
        )

    def _page(self, name: str) -> str:
        ours = list(self.program(name).command)
        return f"http://127.0.0.1:{ours[ours.index('--metrics-port') + 1]}"

    def log(self, name: str, last: int = 4000) -> str:
        """The end of its log."""
        path = self.program(name).log_path
        assert path is not None, "every program logs into a file here"
        return path.read_text(errors="replace")[-last:] if path.exists() else ""

    def rss_bytes(self, name: str) -> int:
        """The memory of a process; 0 while it is not there."""
        pid = self.states()[name].pid
        try:
            return int(psutil.Process(pid).memory_info().rss) if pid is not None else 0
        except psutil.Error:
            return 0

    def _resume_all(self) -> None:
        for status in self.states().values():
            if status.pid is not None:
                os.kill(status.pid, signal.SIGCONT)
