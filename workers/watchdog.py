"""Ends the process when a model never comes back, or when its memory runs out.

A native call cannot be interrupted from Python, so the process goes and its supervisor starts it
again; what was not committed is read again. Two ways of being stuck: the call lets other threads
run, and the event loop notices; or it holds the interpreter lock, and a timer outside the
interpreter fires because nobody set it back.

Memory that a model leaks comes back only with a new process: shortly before the limit this one is
asked to finish what it has and to leave.
"""

import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Sequence

import psutil

from streams.instants import NS_PER_MS
from workers.lane import Lane
from workers.marks import Witness

log = logging.getLogger(__name__)

# sysexits.h: a temporary failure; try again.
EXIT_HUNG = 75
# Between two looks; a hang is noticed so much later at most.
CHECKS_PER_LIMIT = 10
MAX_INTERVAL_S = 0.5
# Of the memory limit; the rest is for what comes in while the process drains.
FULL_SHARE = 0.9
BYTES_PER_MB = 1_000_000


class Watchdog:
    """Looks at all lanes; `look` must be called every `interval_s` seconds.

    Args:
        lanes: of the process.
        witness: told whose fault it is.
        hang_ms: how long a model call may last.
        max_memory_mb: resident memory of the process, in millions of bytes; None is no limit.
        recycle: called with the reason when the process should be started afresh.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        witness: Witness,
        hang_ms: int,
        max_memory_mb: int | None,
        recycle: Callable[[str], None],
    ) -> None:
        self._lanes = lanes
        self._witness = witness
        self._hang_ms = hang_ms
        self._max_memory_mb = max_memory_mb
        self._recycle = recycle
        self._process = psutil.Process()
        self.interval_s = min(hang_ms / 1000 / CHECKS_PER_LIMIT, MAX_INTERVAL_S)

    def look(self) -> None:
        """Set the timer back; end the process if a model call lasts too long, or memory is full."""
        faulthandler.dump_traceback_later(self._hang_ms / 1000 + self.interval_s, exit=True)
        for lane in self._lanes:
            if lane.busy_ns() > self._hang_ms * NS_PER_MS:
                log.critical(
                    "model %s did not answer within %d ms; ending the process",
                    lane.name,
                    self._hang_ms,
                )
                self._witness.accuse(lane.name)
                faulthandler.dump_traceback(sys.stderr)
                logging.shutdown()
                os._exit(EXIT_HUNG)

        if self._max_memory_mb is not None:
            used_mb = self._process.memory_info().rss / BYTES_PER_MB
            if used_mb > FULL_SHARE * self._max_memory_mb:
                self._recycle(f"{used_mb:.0f} of {self._max_memory_mb} MB of memory are in use")

    def close(self) -> None:
        """Look no more."""
        faulthandler.cancel_dump_traceback_later()
