"""`ensemble demo`: train, run, break and mend an ensemble on real data, and say what happened."""

import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from cli.demo.stage import Stage
    from cli.demo.traffic import Producer, Reader
    from cli.supervisor import Supervisor

_READY_TIMEOUT_S = 90.0
_UPDATE_S = 1.0
# A broker that has just started hands out its first producer ids only after a moment.
_WARM_UP_S = 3.0
_WARM_UP_RATE = 100.0
# What is on its way when the last event is sent arrives within this time, or is lost.
_TAIL_S = 10.0


def demo(
    *,
    seconds: Annotated[
        float,
        typer.Option(min=6, help="How long events are sent; below 30 too short to see a recovery."),
    ] = 60.0,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 1000.0,
    data: Annotated[
        Path | None, typer.Option(help="The credit data, where it is not found by itself.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Keep bundle, configuration and logs here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train, run, break and mend an ensemble on real data; takes about two minutes."""
    from rich.console import Console

    from cli.demo.stage import build, find_data
    from cli.stopping import stop_event
    from lab.progress import bars

    console = Console()
    source = find_data(data)
    with ExitStack() as stack:
        place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
        place.mkdir(parents=True, exist_ok=True)
        stop = stack.enter_context(stop_event())
        console.print(f"1. Train five models on {source.name}", highlight=False)
        with bars() as progress:
            stage = build(source, place, progress)
        console.print(
            f"   bundle {stage.trained.bundle.version}: {stage.trained.training_rows:,} rows to "
            f"learn from, {stage.trained.holdout_rows:,} held out",
            highlight=False,
        )
        summary = _run(stage, console, seconds, rate, stop)
    _print(console, summary)
    if json:
        import msgspec

        typer.echo(msgspec.json.encode(summary).decode())


def _run(
    stage: "Stage", console: "Console", seconds: float, rate: float, stop: threading.Event
) -> dict[str, Any]:
    """Start everything, play the three phases, and sum up."""
    from cli.demo.stage import AWAY, LABEL, await_ready
    from cli.demo.summary import Observations, summary_of
    from cli.demo.traffic import Producer, Reader
    from cli.supervisor import Supervisor
    from cli.up import await_broker, broker_program, create_topics, fork_server, programs_of
    from lab.table import events, labels, read_table

    logs = stage.directory / "logs"
    logs.mkdir(exist_ok=True)
    console.print("2. Start Kafka, Redis, two workers, the combiner and the monitor")
    with ExitStack() as stack:
        broker = broker_program(stage.settings, stage.directory / "broker", logs)
        forks = fork_server(stage.settings)
        forks.prepare()
        supervisor = stack.enter_context(Supervisor([broker], forks=forks))
        await_broker(stage.settings, supervisor, stop)
        create_topics(stage.settings)
        for program in programs_of(stage.settings, stage.config, logs):
            supervisor.add(program)
        table = read_table(stage.holdout)
        rows = events(table, stage.trained.bundle.manifest.schema, exclude=(LABEL, "ID"))
        sent_ns: list[int] = []
        observed = Observations()
        reader = Reader(stage, sent_ns, observed)
        stack.callback(reader.close)
        producer = Producer(stage, rows, sent_ns, observed)
        stack.callback(producer.close)
        await_ready(stage, supervisor, lambda: not stop.is_set(), _READY_TIMEOUT_S)
        console.print(f"3. Send {rate:,.0f} events a second; {AWAY} goes away and comes back")
        _play(console, supervisor, producer, reader, seconds, rate, stop)
        _await_tail(observed, reader, stop)
    if reader.failure is not None:
        raise reader.failure
    setting: dict[str, object] = {
        "rate_per_s": rate,
        "deadline_ms": stage.settings.combiner.deadline_ms,
        "delivery": stage.settings.combiner.delivery,
        "ensemble": f"{stage.settings.ensemble.name}@{stage.trained.bundle.version}",
        "away": AWAY,
    }
    return summary_of(observed, labels(table, LABEL), setting)


def _play(
    console: "Console",
    supervisor: "Supervisor",
    producer: "Producer",
    reader: "Reader",
    seconds: float,
    rate: float,
    stop: threading.Event,
) -> None:
    """A warm-up and three phases of equal length, with the screen on a thread of its own."""
    from cli.demo.screen import Screen
    from cli.demo.stage import AWAY_WORKER
    from cli.demo.summary import AWAY_PHASE, BACK, PHASES, WARM_UP

    name = f"worker-{AWAY_WORKER}-0"
    done = threading.Event()

    def show() -> None:
        with Screen(console) as screen:
            while not done.wait(_UPDATE_S):
                screen.update(producer.phase, producer.observed, reader.health, _UPDATE_S)

    watcher = threading.Thread(target=show, name="screen")
    watcher.start()
    try:
        for phase in range(len(PHASES)):
            producer.phase = phase
            if phase == AWAY_PHASE:
                # What is on its way still has all models.
                _await_tail(producer.observed, reader, stop)
                reader.away_since_s = time.monotonic()
                supervisor.stop(name, grace_s=0)
            elif phase == BACK:
                reader.back_since_s = time.monotonic()
                supervisor.start(name)
            lasts_s = _WARM_UP_S if phase == WARM_UP else seconds / (len(PHASES) - 1)
            producer.send(
                _WARM_UP_RATE if phase == WARM_UP else rate, lasts_s, lambda: not stop.is_set()
            )
    finally:
        done.set()
        watcher.join()


def _await_tail(observed: Any, reader: "Reader", stop: threading.Event) -> None:
    give_up_s = time.monotonic() + _TAIL_S
    while time.monotonic() < give_up_s and not stop.is_set() and reader.failure is None:
        if len(observed.seen) + observed.dead >= len(observed.phase_of):
            return
        time.sleep(0.05)


def _print(console: "Console", summary: dict[str, Any]) -> None:
    """The summary for people."""
    from rich.table import Table

    console.print()
    table = Table("phase", "events", "scored", "p50", "p95", "p99", "max", "fallbacks", box=None)
    for name, phase in summary["phases"].items():
        latency = phase["latency_ms"]
        table.add_row(
            name,
            f"{phase['events']:,}",
            f"{phase['scored']:,}",
            *(f"{latency[q]:.0f} ms" if latency else "" for q in ("p50", "p95", "p99", "max")),
            f"{phase['fallback_rate']:.1%}",
        )
    console.print(table)
    console.print(
        f"\n{summary['events']:,} events in, {summary['scored']:,} scores out, "
        f"{summary['lost']} lost, {summary['duplicates']} duplicates, "
        f"{summary['dead_letters']} dead letters",
        highlight=False,
    )
    _print_recovery(console, summary)
    table = Table("AUC on what was scored", "", box=None)
    for name, value in sorted(summary["auc"].items(), key=lambda entry: -entry[1]):
        table.add_row(name, f"{value:.4f}")
    console.print(table)


def _print_recovery(console: "Console", summary: dict[str, Any]) -> None:
    def after(seconds: float | None) -> str:
        return "not seen" if seconds is None else f"after {seconds:.1f} s"

    console.print(
        f"{summary['away']}: FAILED {after(summary['failed_after_s'])} without answers, "
        f"HEALTHY again {after(summary['recovered_after_s'])} from its restart\n",
        highlight=False,
    )
