"""How a process ends: when it is asked to, and without a part of it that lives on."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from streams.errors import EnsembleError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Some tools signal a process and its whole group, so that one request arrives twice.
_SAME_REQUEST_S = 1.0
# What an interpreter takes to end, and more than any thread of ours.
_LEAVE_S = 1.0


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets; asked a second time, the process ends at once."""
    stop = threading.Event()
    asked_at_s = 0.0

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at_s
        now_s = time.monotonic()
        if not stop.is_set():
            asked_at_s = now_s
            stop.set()
        elif now_s - asked_at_s > _SAME_REQUEST_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def leaving_for_good() -> Iterator[None]:
    """After this block the process ends within a second, whatever threads are left in it.

    An interpreter waits at its end for threads that are no daemons, and a model may have started
    some that never end.
    """
    exit_code = 1
    try:
        yield
        exit_code = 0
    except EnsembleError as error:
        exit_code = error.exit_code
        raise
    finally:
        threading.Thread(target=_leave, args=(exit_code,), name="leave", daemon=True).start()


def _leave(exit_code: int) -> None:
    threading.Event().wait(_LEAVE_S)
    leave(exit_code)


def leave(exit_code: int) -> NoReturn:
    """End this process without taking apart what was imported.

    That would take longer than some commands do, and the threads of a Kafka client go on meanwhile:
    one that is in the middle of a TLS handshake while OpenSSL is taken from under it crashes the
    process, and a supervisor would be told of a crash and not of what was wrong.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
