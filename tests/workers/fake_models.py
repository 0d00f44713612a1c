"""Models that behave and misbehave; each event's `x` is its score, unless somebody is told so."""

import os
import threading
from pathlib import Path

import numpy as np

FOREVER_S = 3600.0
RAISES, NAN, HANGS, HOLDS = 0.125, 0.25, 0.375, 0.5


def honest(matrix):
    return matrix[:, 0]


def moody(matrix):
    x = matrix[:, 0]
    if (x == RAISES).any():
        raise ValueError("not this one")
    return np.where(x == NAN, np.nan, x)


def slow(matrix):
    threading.Event().wait(0.05)
    return matrix[:, 0]


def gated(matrix):
    """Answers nothing until the file named in GATE exists, but the zeros it is warmed up with."""
    while matrix.any() and not Path(os.environ["GATE"]).exists():
        threading.Event().wait(0.01)
    return matrix[:, 0]


def hangs(matrix):
    if (matrix[:, 0] == HANGS).any():
        threading.Event().wait(FOREVER_S)
    if (matrix[:, 0] == HOLDS).any():
        sum(range(10**15))  # never lets another thread have the interpreter
    return matrix[:, 0]
