"""Tells a process that stood still from one that waited.

A thread that waits for a broker cannot: its own clock shows the same. So there is one that waits
for nobody. When it is late, nothing of the process ran.
"""

import threading
from time import monotonic

from streams.standstill import Standstill

# A fraction of any session; a wake-up so often costs nothing that could be measured.
_EVERY_S = 0.2


class Pulse:
    """Sees this process run, from now on; may be used by any thread.

    Args:
        longest_s, doubt_s: see `Standstill`.
    """

    def __init__(self, longest_s: float, doubt_s: float) -> None:
        self._standstill = Standstill(longest_s, doubt_s, monotonic())
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Beat no more."""
        self._closed.set()
        self._thread.join()

    def listen(self) -> None:
        """To be called before the process hears from others."""
        with self._lock:
            self._standstill.listen(monotonic())

    def is_in_doubt(self) -> bool:
        """Whether the process stood still, and what it hears now may be news of that time."""
        with self._lock:
            return self._standstill.is_in_doubt(monotonic())

    def _beat(self) -> None:
        while not self._closed.wait(_EVERY_S):
            with self._lock:
                self._standstill.run(monotonic())
