"""The fork server: has imported everything, and forks a process for whoever asks.

    python -m cli.forkserver ANSWERS [FORMAT …]

An interpreter and its imports cost each process 0.6 to 2 s of processor time, and for as long as a
combiner that was killed is not back its partitions wait. The fork server pays that once; a child
of it begins to work within some 20 ms. It is single-threaded, opens no connection and computes
nothing, so there is nothing that a copy could break or share.

It reads requests from its standard input, a JSON object a line, and writes a line to the file
descriptor ANSWERS for each child that began and each that ended:

    {"arguments": ["combiner", "--slot", "0"], "environment": {}, "log": null}
    {"pid": 4711, "exit_code": null}
    {"pid": 4711, "exit_code": -9}

It ends when its input does. `cli/children.py` is its other side.
"""

import gc
import importlib
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec
import setproctitle

# What the roles need; a child imports by itself what is not among it.
MODULES = ("cli.main", "cli.logs", "combiner.process", "workers.service", "monitor.service")
_REQUESTS = 0
_CHUNK_BYTES = 65_536
# Its children are to end, or all; it ends when nobody can ask any more.
_NOT_MEANT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Request(msgspec.Struct, frozen=True):
    """A child that is wanted: arguments of `ensemble`, variables, and where its output goes."""

    arguments: list[str]
    environment: dict[str, str]
    log: str | None


class News(msgspec.Struct, frozen=True):
    """A child that began, or ended."""

    pid: int
    exit_code: int | None = None


def serve(requests: int, answers: int) -> Request | None:
    """Fork a child for each request; in the child the request, in the server None at the end."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    # Blocked and not ignored: what is sent to a child too early waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_MEANT)
    usual = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake)
    for request in _read(requests, answers, woken):
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, usual)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_MEANT)
            for descriptor in (woken, wake, answers):
                os.close(descriptor)
            return request
        _tell(answers, News(pid))
    return None


def _read(requests: int, answers: int, woken: int) -> Iterator[Request]:
    """The requests, until there are no more; meanwhile it tells of children that ended."""
    waiting = b""
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, _CHUNK_BYTES)
            for news in _ended():
                _tell(answers, news)
        if requests in ready:
            more = os.read(requests, _CHUNK_BYTES)
            if not more:
                return
            *lines, waiting = (waiting + more).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line, type=Request)


def _ended() -> Iterator[News]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield News(pid, os.waitstatus_to_exitcode(status))


def _tell(answers: int, news: News) -> None:
    os.write(answers, msgspec.json.encode(news) + b"\n")


def preload(formats: set[str]) -> None:
    """Import what the children need, and leave it alone from then on."""
    from workers.lean import lean_imports
    from workers.loading import ADAPTERS

    for name in MODULES:
        importlib.import_module(name)
    with lean_imports(formats):
        for format_ in formats:
            with suppress(ImportError):  # the child says what is missing
                importlib.import_module(ADAPTERS[format_])
    # A collector that looked at what is shared would copy it.
    gc.collect()
    gc.freeze()


def _become(request: Request) -> None:
    """What a process gets that is executed: a session, its output, variables, a name."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, _REQUESTS)
    os.close(nothing)
    if request.log is not None:
        output = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
    os.environ.update(request.environment)
    sys.argv = ["ensemble", *request.arguments]
    setproctitle.setproctitle(" ".join(sys.argv))


def main(arguments: Sequence[str]) -> None:
    """Serve; in a child, run `ensemble`."""
    setproctitle.setproctitle("ensemble fork server")
    answers, *formats = arguments
    preload(set(formats))
    from cli.main import main as ensemble

    request = serve(_REQUESTS, int(answers))
    if request is None:
        return
    _become(request)
    ensemble()


if __name__ == "__main__":
    main(sys.argv[1:])
