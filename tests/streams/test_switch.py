"""Processes whose loop turns, stands still, and is over."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import threading
from streams.switch import DeadMansSwitch

def loop(turns):
    switch = DeadMansSwitch(1.5)
    pause = threading.Event()
    for _ in range(turns):
        pause.wait(0.5)
        switch.hold()
    return switch, pause
"""


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_loop_that_stands_still_ends_the_process_and_shows_where() -> None:
    done = ended("\n_, pause = loop(0)\npause.wait()")
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in wait" in done.stderr


def test_one_that_turns_or_is_over_goes_on() -> None:
    done = ended("\nswitch, pause = loop(5)\nswitch.release()\npause.wait(2)\nprint('there')")
    assert (done.returncode, done.stdout) == (0, "there\n")
