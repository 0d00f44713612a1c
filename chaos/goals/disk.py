"""The broker's disk is full: the broker ends, and comes back when there is room again."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.goals.goal import Result, goal
from chaos.plan import Plan
from chaos.reader import wait_for
from chaos.stage import Stage

RATE_PER_S = 1000
SETTLED_MS = 200
SIZE_MB = 192
# What is left when the ballast is there: seconds of events and scores.
LEFT_BYTES = 3_000_000
FULL_S = 30.0
PATIENCE_S = 120.0
_BLOCK = 1 << 20


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own that is full soon.

    Raises:
        OSError: this machine does not let us mount one.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-disk-") as place:
        mount, umount = shutil.which("mount"), shutil.which("umount")
        if mount is None or umount is None:
            raise OSError("there is no `mount` on this machine")
        command = [mount, "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"cannot mount a small file system: {done.stderr.strip()}")
        try:
            yield Path(place)
        finally:
            subprocess.run([umount, "--lazy", place], check=True)


def _fill(disk: Path) -> Path:
    """Take all room but a little."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while shutil.disk_usage(disk).free > LEFT_BYTES + _BLOCK:
            file.write(b"\0" * _BLOCK)
            file.flush()
    return ballast


@goal(
    "22",
    "the broker's disk is full for 30 s while events go on",
    "0 lost, 0 duplicates; nobody given up by the supervisor; recovers by itself when there is "
    "room and the broker is back",
    count=1,
)
def disk_full(count: int) -> Result:
    """A broker whose only log directory fails ends itself."""
    try:
        with small_disk() as disk:
            return _measured(count, disk)
    except OSError as error:
        return Result({}, held=False, note=f"not measured here: {error}")


def _measured(count: int, disk: Path) -> Result:
    properties = {"log.dirs": str(disk / "data"), "log.segment.bytes": "16777216"}
    with Stage(Plan(broker_properties=properties)) as stage:
        stage.await_ready()
        broker = stage.kafka.brokers[0]
        states: set[str] = set()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            for _ in range(count):
                ballast = _fill(disk)
                wait_for(lambda: not broker.running, lambda: "the broker still runs")
                stage.rest(FULL_S)
                states |= {status.state for status in stage.states().values()}
                ballast.unlink()
                broker.start()
                stage.await_flow(SETTLED_MS, PATIENCE_S)
        report = stage.report()
        ends = len(stage.ended)
        given_up = {s.state for s in stage.states().values()} | states
    return Result.of(
        report,
        not given_up & {"failed", "quarantined"},
        gap_s=report.timing.gap_s,
        process_ends=ends,
        full_share=report.rungs["none"] / max(1, report.scored),
    )
