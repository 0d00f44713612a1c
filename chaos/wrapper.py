"""Runs a process of the product with something wrong inside, without a word in its own code.

    python -m chaos.wrapper --die "after commit" --while FILE -- combiner --slot 0 …
    python -m chaos.wrapper --step-clock 600 --every 2 -- combiner --slot 0 …

`--die STEP` kills the process (SIGKILL to itself) when it comes to that step for the n-th time:
`--passes` says which, and without it chance does, anew in each life. `--step-clock SECONDS` makes
the wall clock jump: right, ahead, behind, by so much, every so often. Only what Python reads jumps;
the Kafka client has a clock of its own. With `--while FILE` nothing is wrong with a process that
starts when the file is gone.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka

# Step -> class of the client, its method, and whether it is reached before or after the call.
STEPS: dict[str, tuple[str, str, bool]] = {
    "after consume": ("Consumer", "consume", False),
    "after produce": ("Producer", "produce", False),
    "after a batch was produced": ("Producer", "produce_batch", False),
    "after send_offsets": ("Producer", "send_offsets_to_transaction", False),
    "before commit": ("Producer", "commit_transaction", True),
    "after commit": ("Producer", "commit_transaction", False),
    "before offset commit": ("Consumer", "commit", True),
    "after offset commit": ("Consumer", "commit", False),
}
COMBINER_STEPS = (
    "after consume",
    "after a batch was produced",
    "after send_offsets",
    "before commit",
    "after commit",
)
WORKER_STEPS = ("after consume", "after produce", "before offset commit", "after offset commit")
# How many passes a life may last; the first ones are its start.
FEWEST, MOST = 3, 25


def die_at(step: str, passes: int) -> None:
    """Let this process kill itself when it reaches a step so many times (0 leaves it to chance)."""
    client, method, before = STEPS[step]
    left = passes or random.Random(os.getpid()).randint(FEWEST, MOST)

    def passed() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    original: Any = getattr(confluent_kafka, client)
    call = getattr(original, method)

    def marked(self: Any, *arguments: Any, **options: Any) -> Any:
        if before:
            passed()
        answer = call(self, *arguments, **options)
        # A fetch that brings nothing is none.
        if not before and (answer or method != "consume"):
            passed()
        return answer

    setattr(confluent_kafka, client, type(client, (original,), {method: marked}))


def step_clock(seconds: float, every_s: float) -> None:
    """Let the wall clock jump: right, ahead, right, behind, and again."""
    steps_ns = [round(part * seconds * 1e9) for part in (0, 1, 0, -1)]
    started_s = time.monotonic()
    now_ns: Callable[[], int] = time.time_ns

    def stepped_ns() -> int:
        return now_ns() + steps_ns[int((time.monotonic() - started_s) / every_s) % len(steps_ns)]

    time.time_ns = stepped_ns
    time.time = lambda: stepped_ns() / 1e9


def main(arguments: Sequence[str]) -> None:
    """Break what is to be broken, and run the command."""
    place = arguments.index("--")
    parser = argparse.ArgumentParser(prog="chaos.wrapper")
    parser.add_argument("--die", choices=STEPS)
    parser.add_argument("--passes", type=int, default=0)
    parser.add_argument("--step-clock", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--while", type=Path, dest="fault")
    wanted = parser.parse_args(arguments[:place])
    faulty = wanted.fault is None or wanted.fault.exists()
    if wanted.die and faulty:
        die_at(wanted.die, wanted.passes)
    if wanted.step_clock and faulty:
        step_clock(wanted.step_clock, wanted.every)
    sys.argv = ["ensemble", *arguments[place + 1 :]]
    # Only here: it takes the client's classes by name.
    from cli.main import main as ensemble

    ensemble()


if __name__ == "__main__":
    main(sys.argv[1:])
