"""Processes under measurement: started, watched by their CPU time and memory, stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.pipelines.rig import TIMEOUT_S

BYTES_PER_MB = 1e6
SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_s: float
    memory_mb: float


# Wall-clock nanoseconds, and the usage of each process by name.
Sample = tuple[int, Mapping[str, Usage]]


class Processes:
    """Some processes by name."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], log: Path) -> None:
        """Start one; it finds this project's packages."""
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        with log.open("ab") as output:
            self._running[name] = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment
            )

    def usage(self) -> Mapping[str, Usage]:
        """CPU and memory of each, with its children."""
        return {name: _usage(process.pid) for name, process in self._running.items()}

    def usage_while(
        self, other: "subprocess.Popen[bytes]"
    ) -> list[tuple[int, Mapping[str, Usage]]]:
        """What they have used, time and again until another process has ended."""
        found = []
        while other.poll() is None:
            self.check()
            found.append((time.time_ns(), self.usage()))
            time.sleep(SAMPLE_S)
        return found

    def check(self) -> None:
        """Raises RuntimeError when one has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}")

    def stop(self) -> None:
        """SIGTERM to all, then wait."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(TIMEOUT_S)


def _usage(pid: int) -> Usage:
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    return Usage(
        sum(time.user + time.system for time in times),
        sum(member.memory_info().rss for member in family) / BYTES_PER_MB,
    )


@contextmanager
def processes() -> Iterator[Processes]:
    """Stopped at the end, whatever happens."""
    running = Processes()
    try:
        yield running
    finally:
        running.stop()
