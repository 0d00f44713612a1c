"""`ensemble up`: everything of the configuration under one supervisor."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.broker import DIRECTORY
from cli.options import DEFAULT_CONFIG, ConfigOption

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from cli.children import ForkServer
    from cli.supervisor import ChildStatus, Program, Supervisor
    from streams.settings import Settings

# A broker is up in three seconds; a loaded machine is ten times slower.
_BROKER_TIMEOUT_S = 90.0
_LOCAL = re.compile(r"(?:127\.0\.0\.1|localhost):(\d+)")
_LOCAL_REDIS = re.compile(r"redis://(?:127\.0\.0\.1|localhost):(\d+)(?:/0?)?")


def command(*arguments: str) -> list[str]:
    """The command line of `ensemble` with these arguments, in this same environment."""
    from cli.children import COMMAND

    return [*COMMAND, *arguments]


def fork_server(
    settings: "Settings", environment: "Mapping[str, str] | None" = None
) -> "ForkServer":
    """What forks the processes of a configuration.

    The libraries of the models are in it unless one model is code of the user, which may want
    more of them than what workers import.
    """
    from cli.children import ForkServer
    from registry.bundle import load_manifest

    formats: set[str] = set()
    if not any(model.callable for model in settings.models):
        manifest = load_manifest(Path(settings.ensemble.bundle)).manifest
        entries = [manifest.model(model.name) for model in settings.models if not model.external]
        formats = {entry.format for entry in entries if entry is not None}
    return ForkServer(sorted(formats), environment)


def programs_of(
    settings: "Settings", config: Path, log_directory: Path | None = None
) -> "list[Program]":
    """The processes of a configuration: workers, combiners, monitor; each with its metrics port.

    Args:
        settings: what `config` says.
        config: the file, which each process reads itself.
        log_directory: where each process logs into a file of its own name; None is where this
            process logs.
    """
    from cli.supervisor import Program
    from workers.marks import blamed, place_of

    metrics = settings.metrics

    def program(name: str, *arguments: str, port: int) -> Program:
        place = ("--config", str(config.resolve()), "--metrics-port", str(port))
        log = log_directory / f"{name}.log" if log_directory is not None else None
        return Program(name, command(*arguments, *place), log_path=log)

    def watched(program: Program, worker: str, slot: int) -> Program:
        return replace(program, excuse=partial(blamed, place_of(settings, worker, str(slot))))

    def port(base: int, index: int) -> int:
        return base + index if base else 0  # 0 is any free one, for each

    workers = [(w.name, slot) for w in settings.workers for slot in range(w.processes)]
    found = [
        watched(
            program(
                f"worker-{name}-{slot}",
                *("worker", name, "--slot", str(slot)),
                port=port(metrics.worker_port, index),
            ),
            *(name, slot),
        )
        for index, (name, slot) in enumerate(workers)
    ]
    found += [
        program(
            f"combiner-{slot}",
            *("combiner", "--slot", str(slot)),
            port=port(metrics.combiner_port, slot),
        )
        for slot in range(settings.combiner.processes)
    ]
    return [*found, program("monitor", "monitor", port=metrics.monitor_port)]


def broker_program(
    settings: "Settings", directory: Path, log_directory: Path | None = None
) -> "Program":
    """`ensemble broker` where the configuration expects Kafka and Redis; stopped last.

    Raises:
        ConfigurationError: the configuration expects Kafka on another machine.
    """
    from cli.supervisor import Program
    from streams.errors import ConfigurationError

    servers = settings.kafka.bootstrap_servers
    kafka = _LOCAL.fullmatch(servers)
    if kafka is None:
        raise ConfigurationError(
            "kafka.bootstrap_servers",
            f'got "{servers}", expected 127.0.0.1:PORT for an embedded broker',
        )
    redis = _LOCAL_REDIS.fullmatch(settings.cache.url.get_secret_value())
    arguments = ["broker", "--directory", str(directory.resolve()), "--port", kafka[1]]
    arguments += ["--redis-port", redis[1]] if redis else ["--no-redis"]
    log = log_directory / "broker.log" if log_directory is not None else None
    return Program("broker", command(*arguments), log_path=log, tier=0)


def up(
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    embedded: Annotated[
        bool,
        typer.Option("--embedded", help="Start a broker and a Redis as well, and make the topics."),
    ] = False,
    directory: Annotated[
        Path, typer.Option(help="Where the embedded broker and Redis keep their data.")
    ] = DIRECTORY,
) -> None:
    """Run everything: workers, combiners and monitor; what dies is started again."""
    from cli import logs
    from cli.configuration import load_settings
    from cli.stopping import stop_event
    from cli.supervisor import Supervisor
    from registry.bundle import load_manifest

    settings = load_settings(config)
    logs.configure("up", settings)
    load_manifest(Path(settings.ensemble.bundle))
    programs = programs_of(settings, config)
    forks = fork_server(settings)
    forks.prepare()
    gone: dict[str, ChildStatus] = {}
    with stop_event() as stop:

        def on_change(name: str, status: "ChildStatus") -> None:
            if status.state in {"failed", "quarantined"}:
                gone[name] = status
            else:
                gone.pop(name, None)
            if len(gone) >= len(programs):
                stop.set()  # nothing is left to supervise

        first = [broker_program(settings, directory)] if embedded else programs
        with Supervisor(first, forks=forks, on_change=on_change) as supervisor:
            if embedded:
                if not await_broker(settings, supervisor, stop):
                    return
                create_topics(settings)
                for program in programs:
                    supervisor.add(program)
            stop.wait()
    if gone:
        code = next(iter(gone.values())).exit_code or 0
        raise typer.Exit(code if code > 0 else 1)  # a signal has no exit code


def await_broker(settings: "Settings", supervisor: "Supervisor", stop: "threading.Event") -> bool:
    """Wait until the broker serves; whether it does. Raises BrokerError when it never will."""
    import time

    from streams.admin import TopicAdmin
    from streams.errors import BrokerError

    admin = TopicAdmin(settings.kafka)
    give_up_s = time.monotonic() + _BROKER_TIMEOUT_S
    while not stop.is_set():
        try:
            admin.reach(timeout_s=0.5)
        except BrokerError:
            status = supervisor.states()["broker"]
            if status.state in {"failed", "quarantined"} or time.monotonic() > give_up_s:
                raise
            continue
        return True
    return False


def create_topics(settings: "Settings") -> None:
    """Make the topics that do not exist."""
    from streams.admin import TopicAdmin, wanted_topics

    admin = TopicAdmin(settings.kafka)
    wanted = wanted_topics(settings.topics, cascade=settings.cascade.on)
    states = admin.states(topic.name for topic in wanted)
    admin.create([topic for topic in wanted if topic.name not in states], settings.topics)
