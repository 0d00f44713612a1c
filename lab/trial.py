"""A model file of unknown origin, tried in a process that may die.

Native parsers of model files trust what they read; a crafted file can crash them, or worse. So a
file is first opened in a process of its own, with limits on time, memory and files, that answers
some rows and ends. As a program this module is that process.
"""

import resource
import signal
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.errors import BundleError

# Importing the largest library takes seconds, answering a few rows does not.
_CPU_S = 60
_WALL_S = 120
# Beyond what any library reserves without using it.
_ADDRESS_SPACE_BYTES = 16 * 1024**3


class _Task(msgspec.Struct, array_like=True):
    """What is tried: the file, float64[N, F] as bytes, and how many numbers an answer has."""

    format: str
    data: bytes
    rows: bytes
    features: int
    columns: int


class _Outcome(msgspec.Struct):
    """What came of it: the answers' bytes and shape, or what was wrong."""

    answers: bytes = b""
    shape: tuple[int, ...] = ()
    problem: str = ""


def try_model(
    format_: str, data: bytes, rows: NDArray[np.float64], columns: int = 1
) -> NDArray[np.float64]:
    """What a model answers to some rows, with so many numbers each.

    Raises:
        BundleError: it cannot be opened, fails on the rows, or takes its process with it.
    """
    content = np.ascontiguousarray(rows, "<f8").tobytes()
    task = msgspec.msgpack.encode(_Task(format_, data, content, rows.shape[1], columns))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "lab.trial"],
            input=task,
            capture_output=True,
            timeout=_WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"did not answer within {_WALL_S} s") from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError(f"its library crashed on it ({name})")
    try:
        outcome = msgspec.msgpack.decode(done.stdout, type=_Outcome)
    except msgspec.DecodeError as error:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise BundleError(f"its trial ended with code {done.returncode}: {said}") from error
    if outcome.problem:
        raise BundleError(outcome.problem)
    return np.frombuffer(outcome.answers, "<f8").reshape(outcome.shape)


def main() -> None:
    """Try what comes on standard input; what comes of it goes to standard output."""
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Task)
    _limit(resource.RLIMIT_CPU, _CPU_S)
    _limit(resource.RLIMIT_AS, _ADDRESS_SPACE_BYTES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    sys.stdout.buffer.write(msgspec.msgpack.encode(_tried(task)))


def _limit(what: int, most: int) -> None:
    _, ceiling = resource.getrlimit(what)
    most = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
    resource.setrlimit(what, (most, ceiling))


def _tried(task: _Task) -> _Outcome:
    from workers.loading import adapter_for, missing_library

    rows = np.frombuffer(task.rows, "<f8").reshape(-1, task.features)
    try:
        model: Any = adapter_for(task.format).load(
            task.data, name="it", version="", minimum=None, maximum=None, columns=task.columns
        )
    except ImportError as error:
        return _Outcome(problem=str(missing_library("it", error)))
    except BundleError as error:
        return _Outcome(problem=str(error))
    try:
        answers = np.asarray(model.predict(rows), dtype="<f8")
    except Exception as error:  # noqa: BLE001 - whatever its library raises is what is wrong
        text = str(error).partition("\n")[0]
        return _Outcome(problem=f"fails on the golden rows: {type(error).__name__}: {text}")
    return _Outcome(answers.tobytes(), answers.shape)


if __name__ == "__main__":
    main()
