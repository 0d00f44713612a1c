"""No child outlives the process that started it, however that one ends.

A parent that is killed runs no clean-up, so someone else must. The kernel's `PR_SET_PDEATHSIG` is
not that someone: it fires when the *thread* that forked ends, it cannot wait for a drain, and it
exists on Linux only. Here a guard, a tiny process, reads the pids of the children from a pipe
whose only writing end the parent holds. When that end closes, the guard asks those that are left
to end, and kills them when they do not within the grace time.
"""

import contextlib
import os
import subprocess
import sys
import threading

# Isolated and without site-packages it starts in some 20 ms. A child whose parent is gone is
# reaped by the system, so that its number vanishes; signal 0 asks whether it is still there.
_PROGRAM = """
import os, signal, sys, time
pids = set()
for line in sys.stdin:
    (pids.add if line[0] == "+" else pids.discard)(int(line[1:]))
def tell(number):
    for pid in list(pids):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pids.discard(pid)
grace_s = float(sys.argv[1])
if grace_s:
    tell(signal.SIGTERM)
give_up = time.monotonic() + grace_s
while pids and time.monotonic() < give_up:
    time.sleep(0.05)
    tell(0)
tell(signal.SIGKILL)
"""


class Guard:
    """The parent's end of the pipe; methods may be called from any thread.

    Args:
        grace_s: how long the children have to end by themselves; with 0 they are killed at once.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def add(self, pid: int) -> None:
        """From here on the child ends with this process."""
        with self._lock:
            self._pids.add(pid)
            if self._process is not None and self._process.poll() is None:
                self._tell("+", pid)
                return
            self._release()  # the first child, or a guard that was killed itself
            self._start()
            for each in self._pids:
                self._tell("+", each)

    def remove(self, pid: int) -> None:
        """The child has ended; its number may belong to a stranger soon."""
        with self._lock:
            if pid in self._pids:
                self._pids.remove(pid)
                self._tell("-", pid)

    def close(self) -> None:
        """Let the guard end what is left, and wait for it."""
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
        reading_end, self._pipe = os.pipe()  # not inherited by children, by Python's default
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(self._grace_s)],
            stdin=reading_end,
            stdout=subprocess.DEVNULL,
            # A session of its own, so that Ctrl-C in the terminal does not reach it.
            start_new_session=True,
        )
        os.close(reading_end)

    def _tell(self, sign: str, pid: int) -> None:
        if self._pipe >= 0:
            # A guard that is gone is replaced by the next `add`.
            with contextlib.suppress(OSError):
                os.write(self._pipe, f"{sign}{pid}\n".encode())

    def _release(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
