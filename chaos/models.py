"""Cheap models for the system under test: numpy alone, answers that follow from the event.

What each model should say can thus be computed by whoever judges. A module like this one is what
`callable = "chaos.models:mild"` names.
"""

import time

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Scores = NDArray[np.float64]


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
