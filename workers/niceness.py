"""How readily a worker's process leaves the processor to others.

Whoever decides by a deadline must have a core when it comes, also while models are busy, restart,
or hang; models are as fast as before wherever a core is free.
"""

import contextlib
import os
from pathlib import Path

# Linux may share the processor among sessions first; niceness counts within one alone, then.
_OF_THE_SESSION = Path("/proc/self/autogroup")


def be_nice(nice: int) -> None:
    """Let processes that are less nice go first; to be called before there are threads.

    Args:
        nice: from 0 to 19, added to what the process has.
    """
    total = os.nice(nice)
    # The session of somebody else may have others in it.
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no such thing here, or not now
            _OF_THE_SESSION.write_text(str(total))
