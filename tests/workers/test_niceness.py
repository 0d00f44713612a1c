"""Workers leave the processor to others, and nobody else in their session."""

import subprocess
import sys
from pathlib import Path

import pytest

OF_THE_SESSION = Path("/proc/self/autogroup")
SCRIPT = """
import os
from pathlib import Path
from workers.niceness import _OF_THE_SESSION, be_nice
before = os.getpriority(os.PRIO_PROCESS, 0)
be_nice({nice})
of_the_session = _OF_THE_SESSION.read_text() if _OF_THE_SESSION.exists() else "nothing"
print(os.getpriority(os.PRIO_PROCESS, 0) - before, of_the_session)
"""


def told(nice: int, *, leads: bool) -> tuple[int, str]:
    """By how much a process became nicer, and what its session is."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(nice=nice)],
        capture_output=True,
        check=True,
        text=True,
        start_new_session=leads,
    )
    more, _, of_the_session = done.stdout.partition(" ")
    # Processes that are older than every session have no share of their own: the file is empty.
    return int(more), of_the_session.strip()


@pytest.mark.parametrize("nice", [0, 4])
def test_the_process_is_as_nice_as_it_is_told(nice: int) -> None:
    assert told(nice, leads=True)[0] == nice
    assert told(nice, leads=False)[0] == nice


def test_a_session_of_its_own_is_as_nice_and_no_other_one() -> None:
    if not OF_THE_SESSION.exists():
        assert told(4, leads=True)[1] == "nothing"
        return
    ours = OF_THE_SESSION.read_text().strip()
    assert told(4, leads=False)[1] == ours
    # The system takes one such wish in a tenth of a second from those who may not administer it.
    assert any(told(4, leads=True)[1].endswith("nice 4") for _ in range(50))
