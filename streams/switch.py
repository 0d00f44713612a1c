"""A dead man's switch: ends a process whose loop stands still, with a traceback of all threads.

A request of the Kafka client has been seen to outlast its own time limit without end, when
connections broke at the wrong moment. Nothing inside the process can take such a call back; its
supervisor starts it again.
"""

import faulthandler
from time import monotonic

_HOLD_EVERY_S = 1.0


class DeadMansSwitch:
    """Must be held again and again from now on.

    Args:
        limit_s: so many seconds after it was held last the process ends, with exit code 1.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._held_s = -_HOLD_EVERY_S
        self.hold()

    def hold(self) -> None:
        """The loop turns; costs next to nothing."""
        now_s = monotonic()
        if now_s - self._held_s >= _HOLD_EVERY_S:
            self._held_s = now_s
            faulthandler.dump_traceback_later(self._limit_s, exit=True)

    def release(self) -> None:
        """It may stand still from now on."""
        faulthandler.cancel_dump_traceback_later()
