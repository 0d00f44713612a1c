"""How a supervisor's children begin: executed, or forked from what is imported already.

Only Linux forks safely with all native libraries there are; elsewhere, and when the fork server
does not answer, children are executed, which takes longer and comes to the same.
"""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from cli.forkserver import News, Request

log = logging.getLogger(__name__)

# `ensemble` in this same environment. `-P`, so that a folder called `cli` where the user happens
# to stand is not taken for ours.
COMMAND = (sys.executable, "-P", "-m", "cli")
_TIMEOUT_S = 30.0


class Process(Protocol):
    """A child, as `subprocess.Popen` shows it."""

    @property
    def pid(self) -> int:
        """Its number."""

    def wait(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still lives."""


def executed(
    command: Sequence[str], environment: Mapping[str, str], log_path: Path | None
) -> Process:
    """A child as usual.

    Raises:
        OSError: there is no such program, or its log cannot be written.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log_path.open("ab")) if log_path is not None else None
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            env={**os.environ, **environment},
            # Ctrl-C reaches only the supervisor, which decides the order of ends.
            start_new_session=True,
        )


class Forked:
    """A child of the fork server."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = threading.Event()
        self._exit_code = 0

    def wait(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        self._ended.wait()
        return self._exit_code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still lives."""
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, exit_code: int) -> None:
        """It has ended."""
        self._exit_code = exit_code
        self._ended.set()


class ForkServer:
    """The one who asks; methods may be called from any thread.

    Args:
        formats: of the models, whose libraries are imported as well; none if code of the user
            may want more of them than workers do.
        environment: variables of the server and all its children, beside those of this process.
    """

    def __init__(
        self, formats: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self._formats = formats
        self._environment = environment or {}
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._began: queue.SimpleQueue[Forked | None] = queue.SimpleQueue()

    def can_start(self, command: Sequence[str]) -> bool:
        """Whether this is `ensemble` itself, and a system that can fork it."""
        return sys.platform == "linux" and tuple(command[: len(COMMAND)]) == COMMAND

    def prepare(self) -> None:
        """Let the server begin to import, beside whatever is done meanwhile."""
        with self._lock, contextlib.suppress(OSError):
            self._running()

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log_path: Path | None
    ) -> Process:
        """A new child.

        Raises:
            OSError: there is no server, or it does not answer.
        """
        place = str(log_path.resolve()) if log_path is not None else None
        request = Request(list(command[len(COMMAND) :]), dict(environment), place)
        with self._lock:
            try:
                return self._forked(request)
            except (BrokenPipeError, ChildProcessError):
                # It had ended unnoticed; the next one has not.
                return self._forked(request)

    def _forked(self, request: Request) -> Forked:
        server = self._running()
        assert server.stdin is not None, "it was started with a pipe"
        try:
            server.stdin.write(msgspec.json.encode(request) + b"\n")
            server.stdin.flush()
            child = self._began.get(timeout=_TIMEOUT_S)
        except queue.Empty:
            self._drop()
            raise TimeoutError("the fork server does not answer") from None
        except OSError:
            self._drop()
            raise
        if child is None:
            self._drop()
            raise ChildProcessError("the fork server has ended")
        return child

    def close(self) -> None:
        """Let the server end; its children go on."""
        with self._lock:
            self._release()

    def _drop(self) -> None:
        if self._server is not None:
            self._server.kill()
        self._release()

    def _release(self) -> None:
        server, self._server = self._server, None
        if server is not None and server.stdin is not None:
            with contextlib.suppress(OSError):
                server.stdin.close()
            server.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._server.poll() is None:
            return self._server
        self._release()
        news, answers = os.pipe()
        try:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli.forkserver", str(answers), *self._formats],
                stdin=subprocess.PIPE,
                pass_fds=[answers],
                env={**os.environ, **self._environment},
                # Ctrl-C reaches only the supervisor.
                start_new_session=True,
            )
        finally:
            os.close(answers)
        self._began = queue.SimpleQueue()
        threading.Thread(
            target=self._listen, args=(news, self._began), name="forks", daemon=True
        ).start()
        return self._server

    def _listen(self, news: int, began: "queue.SimpleQueue[Forked | None]") -> None:
        children: dict[int, Forked] = {}
        with os.fdopen(news, "rb") as lines:
            for line in lines:
                told = msgspec.json.decode(line, type=News)
                if told.exit_code is None:
                    child = children[told.pid] = Forked(told.pid)
                    began.put(child)
                else:
                    children.pop(told.pid).end(told.exit_code)
        # Nobody else learns how these end.
        for child in children.values():
            log.warning("the fork server is gone; killing its child %d", child.pid)
            child.send_signal(signal.SIGKILL)
            child.end(-signal.SIGKILL)
        began.put(None)
