"""Ends the process when a model never comes back.

A native call cannot be interrupted from Python, so the process goes and its supervisor starts it
again; what was not committed is read again. Two ways of being stuck: the call lets other threads
run, and the event loop notices; or it holds the interpreter lock, and a timer outside the
interpreter fires because nobody set it back.
"""

import faulthandler
import logging
import os
import sys
from collections.abc import Sequence

from streams.instants import NS_PER_MS
from workers.lane import Lane

log = logging.getLogger(__name__)

# sysexits.h: a temporary failure; try again.
EXIT_HUNG = 75
# Between two looks; a hang is noticed so much later at most.
CHECKS_PER_LIMIT = 10
MAX_INTERVAL_S = 0.5


class Watchdog:
    """Looks at all lanes; `look` must be called every `interval_s` seconds."""

    def __init__(self, lanes: Sequence[Lane], hang_ms: int) -> None:
        self._lanes = lanes
        self._hang_ms = hang_ms
        self.interval_s = min(hang_ms / 1000 / CHECKS_PER_LIMIT, MAX_INTERVAL_S)

    def look(self) -> None:
        """Set the timer back; end the process if a model call lasts too long."""
        faulthandler.dump_traceback_later(self._hang_ms / 1000 + self.interval_s, exit=True)
        for lane in self._lanes:
            if lane.busy_ns() > self._hang_ms * NS_PER_MS:
                log.critical(
                    "model %s did not answer within %d ms; ending the process",
                    lane.name,
                    self._hang_ms,
                )
                faulthandler.dump_traceback(sys.stderr)
                logging.shutdown()
                os._exit(EXIT_HUNG)

    def close(self) -> None:
        """Look no more."""
        faulthandler.cancel_dump_traceback_later()
