"""Kafka's jars: fetched by Maven coordinate, and trusted only when their hash is the locked one.

`kafka_jars.lock` has one line per jar, `group:artifact:version sha256:…`. The class path is
exactly that list, so nothing unlisted is ever loaded and no dependency is resolved at run time.
`make lock-jars` writes the list anew.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streams.embedded.child import missing_extra
from streams.errors import BrokerError, ConfigurationError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK_PATH: Final = Path(__file__).with_name("kafka_jars.lock")

# Kafka logs through SLF4J 1.7; without the binding of the same log4j it would log nothing.
KAFKA: Final = "org.apache.kafka:kafka_2.13:4.3.0"
LOG_BINDING: Final = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

DOWNLOAD_TIMEOUT_S: Final = 60
# The registry drops a connection now and then; a third failure in a row is an outage.
DOWNLOAD_ATTEMPTS: Final = 3
# Jars are small and many: the waiting is for answers, not for bytes.
DOWNLOADS_AT_ONCE: Final = 8


def class_path(lock_path: Path = LOCK_PATH, jar_directory: Path | None = None) -> list[Path]:
    """The verified jars, fetched first where they are missing.

    They are kept in `jar_directory`, by default in the user's cache directory. Raises
    ConfigurationError when the extra is not installed or the lock cannot be read, BrokerError
    when a jar cannot be fetched or has another hash than the locked one.
    """
    locked = read_lock(lock_path)
    directory = jar_directory or default_jar_directory()
    context = _maven(directory)
    with _exclusive(directory), ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        return list(pool.map(lambda item: _verified_jar(context, *item), locked.items()))


def read_lock(path: Path) -> dict[str, str]:
    """Coordinate to SHA-256 in hexadecimal; raises ConfigurationError for anything else."""
    locked: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        coordinate, _, digest = line.partition(" sha256:")
        if coordinate.count(":") != 2 or len(digest) != 64:
            raise ConfigurationError(
                f"{path.name}, line {number}", "expected 'group:artifact:version sha256:<64 hex>'"
            )
        locked[coordinate] = digest
    return locked


def default_jar_directory() -> Path:
    """Where the jars are kept between runs, after the XDG convention."""
    cache_home = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache_home) if cache_home else Path.home() / ".cache"
    return base / "stream-ensemble" / "jars"


def _verified_jar(context: "MavenContext", coordinate: str, digest: str) -> Path:
    jar = _fetch(context, coordinate)
    found = _sha256(jar)
    if found != digest:
        # An interrupted download looks like this too: out of the way with it, so that the next
        # attempt starts clean.
        jar.unlink()
        raise BrokerError(
            f"{coordinate}: expected sha256 {digest}, got {found}; the file {jar} was removed, "
            f"run again to fetch it anew"
        )
    return jar


def _fetch(context: "MavenContext", coordinate: str) -> Path:
    group, name, version = coordinate.split(":")
    artifact = context.project(group, name).at_version(version).artifact()
    partial = artifact.cached_path
    assert partial is not None, "a context on a directory knows its paths"
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            return Path(artifact.resolve())
        except (RuntimeError, OSError) as error:
            # jgo leaves the part it got under the final name, and would take it for the jar.
            partial.unlink(missing_ok=True)
            if attempt == DOWNLOAD_ATTEMPTS:
                raise BrokerError(f"{coordinate} cannot be fetched: {error}") from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _maven(directory: Path) -> "MavenContext":
    """A Maven context on our own directory; repositories of the user's jgo settings go first."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise missing_extra("jgo") from error
    return MavenContext(
        repo_cache=directory,
        local_repos=[],
        remote_repos={**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL},
        timeout=DOWNLOAD_TIMEOUT_S,
    )


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """One process at a time: two that fetch the same jar would break each other's file."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_lock(path: Path = LOCK_PATH) -> None:
    """Resolve Kafka and the log binding, fetch every jar, and write the hashes found."""
    import jgo

    context = _maven(default_jar_directory())
    artifacts = {
        f"{item.groupId}:{item.artifactId}:{item.version}"
        for endpoint in (KAFKA, LOG_BINDING)
        for item in jgo.resolve(endpoint)
    }
    lines = [
        f"{coordinate} sha256:{_sha256(_fetch(context, coordinate))}"
        for coordinate in sorted(artifacts)
    ]
    header = "# Kafka's jars, written by `make lock-jars`; anything else is refused.\n"
    path.write_text(header + "\n".join(lines) + "\n", encoding="ascii")
