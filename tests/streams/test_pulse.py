"""A process that was stopped while it waited for an answer, and one that only waited."""

import signal
import subprocess
import sys
import threading

import pytest

# Longer than a machine that has much to do keeps a thread from running.
LONGEST_S = 2.0
WAIT_S = 3.0

# Listens, and waits for an answer; then it says what it thinks.
PROGRAM = f"""
import sys
from streams.pulse import Pulse

pulse = Pulse({LONGEST_S}, 60.0)
print("waits", flush=True)
sys.stdin.readline()
pulse.listen()
print(pulse.is_in_doubt(), flush=True)
pulse.close()
"""


@pytest.mark.parametrize("stopped", [True, False])
def test_only_one_that_was_stopped_is_in_doubt(stopped: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        if stopped:
            process.send_signal(signal.SIGSTOP)
        threading.Event().wait(WAIT_S)
        # The answer is there before it wakes: no thread has a head start.
        process.stdin.write("\n")
        process.stdin.flush()
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == f"{stopped}\n"
