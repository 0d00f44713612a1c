"""Starts children, watches them, and starts again those that die; `cli.restarts` decides when.

One thread waits for each child's end; one loop thread does everything else and sleeps until a
child ended, a restart is due, or somebody asks for something. The children's output goes where
the supervisor's goes (or to a file each), untouched: a supervisor that is stuck or gone blocks
nobody.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from cli.children import ForkServer, Process, executed
from cli.restarts import (
    PREDECESSOR_VARIABLE,
    GiveUp,
    History,
    Restart,
    RestartPolicy,
    judge,
)
from streams.guard import Guard

log = logging.getLogger(__name__)

# After this long a child that was asked to end is killed: a drain takes a few seconds.
GRACE_S = 8.0
NS_PER_S = 1_000_000_000

ChildState = Literal["running", "waiting", "stopping", "stopped", "quarantined", "failed"]


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        name: for logs and for `Supervisor.stop` and the like; distinct.
        command: the program and its arguments.
        environment: variables beside those of the supervisor.
        log_path: where its output goes; None is where the supervisor's goes.
        tier: programs of a lower tier are stopped after those of a higher one.
        excuse: given the exit code of an end that nobody asked for, says in words what caused it
            if the successor will deal with that; empty if it is the program's own fault.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log_path: Path | None = None
    tier: int = 1
    excuse: Callable[[int], str] = lambda _exit_code: ""


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child as it is now.

    `state` is `running`; `waiting` for its restart; `stopping` or `stopped` because it was asked
    to; `quarantined` after too many crashes; `failed` where another start cannot help.
    """

    state: ChildState
    pid: int | None
    restarts: int
    exit_code: int | None


class _Child:
    """A program and what became of it; guarded by the supervisor's lock."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.state: ChildState = "stopped"
        self.process: Process | None = None
        self.started_ns = 0
        self.due_ns = 0  # of the restart, while waiting
        self.history = History()
        self.restarts = 0
        self.exit_code: int | None = None

    @property
    def status(self) -> ChildStatus:
        pid = self.process.pid if self.process is not None else None
        return ChildStatus(self.state, pid, self.restarts, self.exit_code)


class Supervisor(AbstractContextManager["Supervisor"]):
    """Keeps programs running; a context manager that starts all of them and stops them at exit.

    All methods may be called from any thread.

    Args:
        programs: what to run.
        policy: how patiently.
        grace_s: seconds from SIGTERM to SIGKILL.
        forks: forks those children that are `ensemble` itself; without it all are executed. It is
            closed with the supervisor.
        on_change: called with a name and its status after every change, on a thread of the
            supervisor; must be quick.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        policy: RestartPolicy | None = None,
        *,
        grace_s: float = GRACE_S,
        forks: ForkServer | None = None,
        on_change: Callable[[str, ChildStatus], None] | None = None,
    ) -> None:
        self._children: dict[str, _Child] = {}
        self._policy = policy or RestartPolicy()
        self._grace_s = grace_s
        self._forks = forks
        self._on_change = on_change
        self._changed = threading.Condition()
        self._closing = False
        self._guard = Guard(grace_s)
        self._loop = threading.Thread(target=self._run, name="supervisor", daemon=True)
        for program in programs:
            self._add(program)

    def __enter__(self) -> Self:
        self._loop.start()
        for name in list(self._children):
            self.start(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- what one may ask --------------------------------------------------------------------

    def add(self, program: Program) -> None:
        """Take in one more program and start it."""
        with self._changed:
            self._add(program)
        self.start(program.name)

    def start(self, name: str) -> None:
        """Start a child that does not run, with a clean slate; one that runs goes on."""
        with self._changed:
            child = self._children[name]
            # One that is just ending is started afresh once it is gone.
            if child.state == "stopping":
                self._changed.wait_for(lambda: child.state != "stopping", self._grace_s + 1)
            if child.state in {"running", "stopping"}:
                return
            child.history = History()
            self._launch(child)

    def stop(self, name: str, grace_s: float | None = None) -> None:
        """Ask a child to end, wait for it, and kill it after the grace time; it stays away.

        One that was given up stays what it is.
        """
        self._stop([name], self._grace_s if grace_s is None else grace_s)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, as the world might; a child that dies of it is started again."""
        with self._changed:
            process = self._children[name].process
            if process is not None:
                process.send_signal(number)

    def states(self) -> dict[str, ChildStatus]:
        """Every child as it is now."""
        with self._changed:
            return {name: child.status for name, child in self._children.items()}

    def wait_for(
        self, reached: Callable[[dict[str, ChildStatus]], bool], timeout_s: float | None = None
    ) -> bool:
        """Wait until the states satisfy a condition; whether they did in time."""
        with self._changed:
            return self._changed.wait_for(lambda: reached(self.states()), timeout_s)

    def close(self) -> None:
        """Stop all children, higher tiers first; nothing is started any more."""
        with self._changed:
            self._closing = True
            tiers = sorted({c.program.tier for c in self._children.values()}, reverse=True)
            self._changed.notify_all()
        for tier in tiers:
            names = [n for n, child in self._children.items() if child.program.tier == tier]
            self._stop(names, self._grace_s)
        if self._loop.is_alive():
            self._loop.join()
        self._guard.close()
        if self._forks is not None:
            self._forks.close()

    # -- the loop ----------------------------------------------------------------------------

    def _run(self) -> None:
        with self._changed:
            while not self._closing:
                now_ns = time.monotonic_ns()
                waiting = [c for c in self._children.values() if c.state == "waiting"]
                for child in waiting:
                    if child.due_ns <= now_ns:
                        child.restarts += 1
                        self._launch(child)
                due = [c.due_ns for c in waiting if c.state == "waiting"]
                wait_s = max(0, min(due) - time.monotonic_ns()) / NS_PER_S if due else None
                self._changed.wait(wait_s)

    def _add(self, program: Program) -> None:
        assert program.name not in self._children, f"two programs named {program.name}"
        self._children[program.name] = _Child(program)

    def _launch(self, child: _Child) -> None:
        """Start the process and a thread that waits for its end."""
        if self._closing:
            return
        program = child.program
        try:
            child.process = process = self._begun(program, child.exit_code)
        except OSError as error:
            child.state = "failed"
            log.critical("%s: cannot be started: %s", program.name, error)
            self._tell(child)
            return
        self._guard.add(process.pid)
        child.state, child.started_ns = "running", time.monotonic_ns()
        log.info("%s: started (pid %d)", program.name, process.pid)
        self._tell(child)
        waiter = threading.Thread(
            target=self._await_end, args=(child, process), name=program.name, daemon=True
        )
        waiter.start()

    def _begun(self, program: Program, predecessor_exit: int | None) -> Process:
        environment = {**program.environment, **_news_of(predecessor_exit)}
        if self._forks is not None and self._forks.can_start(program.command):
            try:
                return self._forks.start(program.command, environment, program.log_path)
            except OSError as error:
                log.warning("%s: %s; executing it", program.name, error)
        return executed(program.command, environment, program.log_path)

    def _await_end(self, child: _Child, process: Process) -> None:
        exit_code = process.wait()
        self._guard.remove(process.pid)
        with self._changed:
            child.exit_code = exit_code
            child.process = None
            if child.state == "stopping" or self._closing:
                child.state = "stopped"
                log.info("%s: stopped", child.program.name)
            else:
                self._ended(child, exit_code)
            self._tell(child)

    def _ended(self, child: _Child, exit_code: int) -> None:
        """A child ended without being asked."""
        now_ns = time.monotonic_ns()
        excuse = child.program.excuse(exit_code)
        child.history, decision = judge(
            self._policy,
            child.history,
            exit_code,
            child.started_ns,
            now_ns,
            excused=bool(excuse),
        )
        name, how = child.program.name, described(exit_code)
        how = f"{how} while {excuse}" if excuse else how
        match decision:
            case Restart(at_ns):
                child.state, child.due_ns = "waiting", at_ns
                log.warning("%s: %s; again in %.1f s", name, how, (at_ns - now_ns) / NS_PER_S)
            case GiveUp("failed"):
                child.state = "failed"
                log.error("%s: %s; another start cannot help", name, how)
            case GiveUp(state):
                child.state = state
                crashes, window_s = self._policy.crashes, self._policy.window_ns // NS_PER_S
                log.error(
                    "%s: %s; quarantined after %d crashes within %d s",
                    name, how, crashes, window_s,
                )  # fmt: skip

    def _stop(self, names: Sequence[str], grace_s: float) -> None:
        with self._changed:
            children = [self._children[name] for name in names]
            for child in children:
                if child.process is not None:
                    child.state = "stopping"
                    child.process.send_signal(signal.SIGTERM)
                    self._tell(child)
                elif child.state == "waiting":
                    child.state = "stopped"
                    self._tell(child)
            gone = self._changed.wait_for(lambda: not any(c.process for c in children), grace_s)
            if not gone:
                for child in children:
                    if child.process is not None:
                        log.warning("%s: did not end in time; killed", child.program.name)
                        child.process.send_signal(signal.SIGKILL)
                self._changed.wait_for(lambda: not any(c.process for c in children))

    def _tell(self, child: _Child) -> None:
        self._changed.notify_all()
        if self._on_change is not None:
            self._on_change(child.program.name, child.status)


def _news_of(exit_code: int | None) -> dict[str, str]:
    """What a child hears of its predecessor."""
    return {} if exit_code is None else {PREDECESSOR_VARIABLE: str(exit_code)}


def described(exit_code: int) -> str:
    """How a process ended, in words.

    >>> described(-9), described(3)
    ('killed by SIGKILL', 'ended with code 3')
    """
    if exit_code >= 0:
        return f"ended with code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
