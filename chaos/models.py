"""Cheap models for the system under test: numpy alone, answers that follow from the event.

What each model should say can thus be computed by whoever judges. A module like this one is what
`callable = "chaos.models:mild"` names.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Scores = NDArray[np.float64]

# Names the file that holds the mood of `moody`; without it, it is in a good one.
MOOD_VARIABLE = "CHAOS_MOOD"
MOODS = ("slow", "hangs", "raises", "raises at times", "NaN", "wrong shape", "crashes")


def mild(rows: Rows) -> Scores:
    """The first feature, a little bent."""
    return np.asarray(0.2 + 0.5 * rows[:, 0])


def steep(rows: Rows) -> Scores:
    """The first feature, as a logistic curve."""
    return np.asarray(1.0 / (1.0 + np.exp(4.0 - 8.0 * rows[:, 0])))


def square(rows: Rows) -> Scores:
    """The square of the first feature."""
    return np.asarray(rows[:, 0] ** 2)


def broken(rows: Rows) -> Scores:
    """Raises, whatever comes."""
    raise RuntimeError(f"out of order, and {len(rows)} rows wait")


def tardy(rows: Rows) -> Scores:
    """Right, and 50 ms behind the usual deadline."""
    time.sleep(0.15)
    return mild(rows)


def moody(rows: Rows) -> Scores:
    """As the file says that `MOOD_VARIABLE` names; read at each call."""
    place = Path(os.environ.get(MOOD_VARIABLE, os.devnull))
    mood = place.read_text(encoding="ascii") if place.is_file() else ""
    scores = np.asarray(rows[:, 0])
    match mood:
        case "slow":
            time.sleep(0.3)
        case "hangs":
            time.sleep(60.0)
        case "raises":
            raise RuntimeError("not now")
        case "raises at times":
            if (scores > 0.75).any():
                raise RuntimeError("not these rows")
        case "NaN":
            return np.full(len(rows), np.nan)
        case "wrong shape":
            return scores[:-1]
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
    return scores
