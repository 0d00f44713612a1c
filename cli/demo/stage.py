"""Where the demo plays: a trained bundle, a configuration, and every process running."""

import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.errors import DataError, EnsembleError

if TYPE_CHECKING:
    from cli.supervisor import Supervisor
    from lab.progress import Progress
    from lab.train import TrainedBundle
    from streams.settings import Settings

DATA = Path("examples") / "credit" / "credit_default.csv.gz"
LABEL = "default.payment.next.month"
ID = "ID"
# The model that is taken away has a process of its own.
AWAY = "xgboost"
AWAY_WORKER = "boosted"

_CONFIG = """\
[ensemble]
name = "credit"
bundle = "bundle"

[kafka]
bootstrap_servers = "127.0.0.1:{kafka}"

[topics]
# Each partition costs requests, and two cores are shared by everything here.
partitions = 2

[event]
id = "{id}"

{models}
[[workers]]
name = "main"
models = [{together}]

[[workers]]
name = "{away_worker}"
models = ["{away}"]

[combiner]
explain = true

[cache]
url = "redis://127.0.0.1:{redis}/0"

[metrics]
worker_port = {worker}
combiner_port = {combiner}
monitor_port = {monitor}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What there is before the first event."""

    directory: Path
    config: Path
    settings: "Settings"
    trained: "TrainedBundle"
    holdout: Path


def find_data(given: Path | None) -> Path:
    """The credit data: given, or beside the project, or under the current directory.

    Raises:
        DataError: it is in none of these places.
    """
    project = Path(__file__).resolve().parent.parent.parent
    places = [given] if given is not None else [project / DATA, Path.cwd() / DATA]
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"{places[0]}: no such file; the data comes with the project's sources")


def build(data: Path, directory: Path, progress: "Progress") -> Stage:
    """Train on the data, and write the configuration beside the bundle."""
    from cli.configuration import load_settings
    from lab.train import train_bundle
    from streams.embedded.child import free_ports

    holdout = directory / "holdout.csv.gz"
    trained = train_bundle(
        data,
        LABEL,
        ID,
        directory / "bundle",
        holdout_out=holdout,
        replace=True,
        progress=progress,
    )
    names = list(trained.members)
    ports = dict(
        zip(("kafka", "redis", "worker", "combiner", "monitor"), free_ports(5), strict=True)
    )
    config = directory / "ensemble.toml"
    config.write_text(
        _CONFIG.format(
            id=ID,
            models="".join(f'[[models]]\nname = "{name}"\n\n' for name in names),
            together=", ".join(f'"{name}"' for name in names if name != AWAY),
            away=AWAY,
            away_worker=AWAY_WORKER,
            **ports,
        ),
        encoding="utf-8",
    )
    return Stage(directory, config, load_settings(config), trained, holdout)


def await_ready(
    stage: Stage, supervisor: "Supervisor", still_wanted: Callable[[], bool], timeout_s: float
) -> None:
    """Wait until every worker and combiner says that it works.

    Raises:
        EnsembleError: one of them was given up, or the time is over.
    """
    import time

    metrics = stage.settings.metrics
    waiting = {
        f"worker {worker.name}": metrics.worker_port + index
        for index, worker in enumerate(stage.settings.workers)
    }
    waiting["combiner"] = metrics.combiner_port
    give_up_s = time.monotonic() + timeout_s
    while waiting and still_wanted():
        waiting = {name: port for name, port in waiting.items() if not _is_ready(port)}
        lost = [n for n, s in supervisor.states().items() if s.state in {"failed", "quarantined"}]
        if lost or time.monotonic() > give_up_s:
            names = ", ".join(lost or waiting)
            raise EnsembleError(f"not ready: {names}; see the logs in {stage.directory / 'logs'}")
        time.sleep(0.1)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
