"""Processes under measurement: started, watched by their CPU time and memory, stopped."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.pipelines.rig import TIMEOUT_S

BYTES_PER_MB = 1e6
US_PER_S = 1e6
# Looking at a process costs a millisecond.
SAMPLE_S = 0.1
READY_STEP_S = 0.02
READY_LIMIT_S = 120.0
LAST_WORDS = 3000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_s: float
    memory_mb: float


# Wall-clock nanoseconds, and the usage of each process by name.
Sample = tuple[int, Mapping[str, Usage]]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds of an event, and the most memory there was, in MB."""

    cpu_us: float
    memory_mb: float


class Processes:
    """Some processes by name."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}
        self._ready: dict[str, tuple[int, Usage]] = {}
        self._ports: dict[str, int] = {}

    def start(self, name: str, command: Sequence[str], log: Path) -> None:
        """Start one; it finds this project's packages."""
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        self._logs[name] = log
        with log.open("ab") as output:
            self._running[name] = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment
            )

    def await_ready(self, ports: Mapping[str, int]) -> None:
        """Wait until the page of each says so, and keep what starting has used.

        Raises RuntimeError when one ends before, or never is.
        """
        give_up_s = time.monotonic() + READY_LIMIT_S
        self._ports |= ports
        while waiting := ports.keys() - self._ready.keys():
            self.check()
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"not ready: {', '.join(sorted(waiting))}")
            for name in waiting:
                if is_ready(ports[name]):
                    self._ready[name] = (time.time_ns(), _usage(self._running[name].pid))
            time.sleep(READY_STEP_S)

    def ready_ns(self, role: str) -> int:
        """When the first of those whose names begin so was ready; nanoseconds, wall clock."""
        return min(at_ns for name, (at_ns, _) in self._ready.items() if name.startswith(role))

    def costs(self, samples: Sequence[Sample], events: int) -> Mapping[str, Cost]:
        """What an event cost each, without starting; the samples are up to the last score."""
        _, last = samples[-1]
        return {
            name: Cost(
                (last[name].cpu_s - started.cpu_s) / events * US_PER_S,
                max(usage[name].memory_mb for _, usage in samples),
            )
            for name, (_, started) in self._ready.items()
        }

    def counted(self, metric: str) -> float:
        """The sum of a counter over all labels and processes."""
        return sum(_counted(port, metric) for port in self._ports.values())

    def usage(self) -> Mapping[str, Usage]:
        """CPU and memory of each, with its children."""
        return {name: _usage(process.pid) for name, process in self._running.items()}

    def usage_while(
        self, other: "subprocess.Popen[bytes]", every_s: float = SAMPLE_S
    ) -> list[Sample]:
        """What they have used, time and again until another process has ended."""
        found: list[Sample] = []
        while other.poll() is None:
            self.check()
            found.append((time.time_ns(), self.usage()))
            with suppress(subprocess.TimeoutExpired):
                other.wait(every_s)
        return [*found, (time.time_ns(), self.usage())]

    def check(self) -> None:
        """Raises RuntimeError, with the end of its log, when one has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                last_words = self._logs[name].read_text(errors="replace")[-LAST_WORDS:]
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{last_words}")

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


def is_ready(port: int) -> bool:
    """Whether the process behind this page says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _counted(port: int, metric: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric))


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
