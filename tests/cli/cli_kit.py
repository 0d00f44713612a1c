"""What tests of the command line share: a configuration for a broker, and running processes."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.request import urlopen

from tests.conftest import Topics

WAIT_S = 60.0
ROLES = ("predictions", "scored", "dead_letters", "health", "control")


def write_config(
    directory: Path, bootstrap_servers: str, topics: Topics, extra: str = "", models: str = ""
) -> Path:
    """A configuration with topics and an ensemble name of its own; makes no topics."""
    names = "".join(f'{role} = "{topics.prefix}{role}"\n' for role in ROLES)
    path = directory / "ensemble.toml"
    path.write_text(
        f"""
[ensemble]
name = "{topics.prefix}ensemble"
[kafka]
bootstrap_servers = "{bootstrap_servers}"
[topics]
inputs = ["{topics.prefix}events"]
partitions = 2
{names}
[metrics]
worker_port = 0
combiner_port = 0
monitor_port = 0
{extra}
{models or "[[models]]" + chr(10) + 'name = "a"' + chr(10) + "external = true"}
""",
        encoding="utf-8",
    )
    return path


def ensemble(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, timeout_s: float = WAIT_S
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(environment or {})},
        check=False,
    )


class Running:
    """A command that runs; its standard error arrives line by line."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = (self.process.stdout, self.process.stderr)
        self._readers = [threading.Thread(target=self._read, args=(each,)) for each in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: TextIO) -> None:
        with stream:
            for line in stream:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def close(self) -> None:
        """Kill it if it still runs, and let go of its output."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()

    def await_line(self, part: str, timeout_s: float = WAIT_S) -> str:
        """The next line that holds `part`."""
        while True:
            try:
                line = self._lines.get(timeout=timeout_s)
            except queue.Empty:
                line = None
            if line is None and (self.process.poll() is not None or self._lines.empty()):
                everything = "\n".join(self.seen)
                raise AssertionError(f"never said {part!r}, but:\n{everything}")
            if line is not None:
                self.seen.append(line)
                if part in line:
                    return line

    def metrics_url(self) -> str:
        """The address of its metrics page."""
        return str(json.loads(self.await_line("metrics on"))["event"].partition("on ")[2])

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(WAIT_S)


@contextmanager
def running(*arguments: str | Path) -> Iterator[Running]:
    """A running command that ends with the block."""
    command = Running(*arguments)
    try:
        yield command
    finally:
        command.close()


def await_metric(url: str, line: str, timeout_s: float = WAIT_S) -> None:
    """Wait until the metrics page has a line."""
    pause = threading.Event()
    page = ""
    for _ in range(int(timeout_s * 20)):
        with urlopen(url, timeout=WAIT_S) as answer:
            page = answer.read().decode()
        if line in page.splitlines():
            return
        pause.wait(0.05)
    raise AssertionError(f"{url} never had {line!r}, but:\n{page}")
