"""The broker: restarted, killed, unreachable for minutes, one of three dead."""

import statistics
import time
from dataclasses import dataclass, field, replace

from chaos.goals.goal import Result, goal
from chaos.plan import Plan
from chaos.proxy import Toxics
from chaos.reader import Background, wait_for
from chaos.stage import Report, Stage

RATE_PER_S = 2000
MIB = 1 << 20
SETTLED_MS = 200
# After a restart everything that piled up comes first.
PATIENCE_S = 120.0
STOCK = {"broker.session.timeout.ms": "9000", "broker.heartbeat.interval.ms": "2000"}


def without_unacknowledged(report: Report) -> tuple[Report, int]:
    """Without outcomes of events that the producer wrote and never heard of; how many.

    A producer whose broker was killed may write an event again, at another offset.
    """
    found = len(report.after.strange)
    return (
        replace(
            report,
            during=replace(report.during, strange=[]),
            after=replace(report.after, strange=[]),
        ),
        found,
    )


def restarts(count: int, *, kill: bool, stock: bool, within_s: float) -> Result:
    """Restart the only broker so often under load."""
    with Stage(Plan(broker_properties=STOCK if stock else {})) as stage:
        stage.await_ready()
        broker = stage.kafka.brokers[0]
        away_s: list[float] = []
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            for _ in range(count):
                began_s = time.monotonic()
                broker.kill() if kill else broker.stop()
                broker.start()
                away_s.append(time.monotonic() - began_s)
                stage.await_flow(SETTLED_MS, PATIENCE_S)
        report, unacknowledged = without_unacknowledged(stage.report())
        ended = len(stage.ended)
    return Result.of(
        report,
        report.timing.gap_s <= within_s,
        f"{ended} processes ended on the way" if ended else "",
        gap_s=report.timing.gap_s,
        broker_away_s=statistics.median(away_s),
        events_written_unacknowledged=unacknowledged,
        p99_ms=report.timing.p99_ms,
        full_share=report.rungs["none"] / max(1, report.scored),
    )


@goal(
    "5",
    "SIGTERM and restart of the only broker, session 3 s",
    "0 lost, 0 duplicates; longest gap ≤ 6 s",
    count=5,
)
def broker_stops(count: int) -> Result:
    """Controlled shutdowns."""
    return restarts(count, kill=False, stock=False, within_s=6)


@goal(
    "5b",
    "kill -9 and restart of the only broker, session 3 s",
    "0 lost, 0 duplicates; longest gap ≤ 9 s",
    count=5,
)
def broker_kills(count: int) -> Result:
    """A broker that was killed is let in again when its old session has ended."""
    return restarts(count, kill=True, stock=False, within_s=9)


@goal(
    "5c",
    "SIGTERM and restart of the only broker, stock session (9 s)",
    "0 lost, 0 duplicates; longest gap ≤ 6 s",
    count=5,
)
def stock_broker_stops(count: int) -> Result:
    """As Kafka comes."""
    return restarts(count, kill=False, stock=True, within_s=6)


@goal(
    "5d",
    "kill -9 and restart of the only broker, stock session (9 s)",
    "0 lost, 0 duplicates; longest gap ≤ 18 s",
    count=5,
)
def stock_broker_kills(count: int) -> Result:
    """As Kafka comes."""
    return restarts(count, kill=True, stock=True, within_s=18)


# As for a lone broker that is killed; the session of a broker is 3 s here, and one of the three
# keeps the group's offsets.
ONE_OF_THREE_S = 18


@goal(
    "5r",
    "kill -9 of one of three brokers in turn, replication factor 3, min.insync.replicas 2",
    f"0 lost, 0 duplicates; longest gap ≤ {ONE_OF_THREE_S} s",
    count=3,
)
def one_of_three(count: int) -> Result:
    """Leaders and coordinators move; the dead one comes back before the next one goes."""
    with Stage(Plan(brokers=3)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            for number in range(count):
                broker = stage.kafka.brokers[number % 3]
                broker.kill()
                stage.await_flow(SETTLED_MS, PATIENCE_S)
                broker.start()
                stage.await_flow(SETTLED_MS, PATIENCE_S)
        report, unacknowledged = without_unacknowledged(stage.report())
        ended = len(stage.ended)
    return Result.of(
        report,
        report.timing.gap_s <= ONE_OF_THREE_S,
        f"{ended} processes ended on the way" if ended else "",
        gap_s=report.timing.gap_s,
        partition_gap_s=report.timing.partition_gap_s,
        events_written_unacknowledged=unacknowledged,
        p99_ms=report.timing.p99_ms,
        full_share=report.rungs["none"] / max(1, report.scored),
    )


@dataclass
class Memory(Background):
    """The largest memory of each process, looked at every tenth of a second."""

    stage: Stage
    names: list[str]
    most_bytes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to look."""
        super().__init__("memory")
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for name in self.names:
                now = self.stage.rss_bytes(name)
                self.most_bytes[name] = max(now, self.most_bytes.get(name, 0))


UNREACHABLE_S = 120.0


@goal(
    "6",
    "no way to the broker for 120 s while events go on",
    "0 lost, 0 duplicates; memory ≤ 1.2 times; backlog drained at ≥ 3 times the input rate",
    count=1,
)
def unreachable(count: int) -> Result:
    """The proxy refuses and cuts: longer than any session and any transaction."""
    rate_per_s = RATE_PER_S
    away, catching_up, drained, sizes = [], [], [], []
    # The latest scores of 100,000 entities would go on filling their place with every event that
    # is scored, whoever was away: here it is full before.
    plan = Plan(kafka_proxy=True, tables={"cache": {"max_entries": 10_000}})
    with Stage(plan) as stage:
        stage.await_ready()
        names = stage.names("worker") + stage.names("combiner")
        with stage.load(rate_per_s):
            stage.await_flow(SETTLED_MS)
            stage.rest(20)  # so that each process has the memory of a working one
            for _ in range(count):
                before = Memory(stage, names)
                stage.rest(5)
                before.close()
                during = Memory(stage, names)
                stage.proxies[0].set(Toxics(refuse=True))
                stage.proxies[0].cut()
                stage.rest(UNREACHABLE_S)
                during.close()
                after = Memory(stage, names)
                seen = len(stage.reader.outcomes)
                stage.proxies[0].heal()
                wait_for(
                    lambda seen=seen: len(stage.reader.outcomes) > seen,  # type: ignore[misc]
                    lambda: stage.log("combiner-0"),
                    PATIENCE_S,
                )
                first_s = time.monotonic()
                stage.await_flow(SETTLED_MS, PATIENCE_S)
                passed_s = time.monotonic() - first_s
                drained.append((len(stage.reader.outcomes) - seen) / passed_s / rate_per_s)
                after.close()
                away += [during.most_bytes[n] / before.most_bytes[n] for n in names]
                catching_up += [after.most_bytes[n] / before.most_bytes[n] for n in names]
                sizes += [
                    f"{n} {before.most_bytes[n] // MIB}, {after.most_bytes[n] // MIB} MiB"
                    for n in names
                ]
        report = stage.report()
        ended = [f"{name} {code}" for name, code in stage.ended]
    return Result.of(
        report,
        max(away + catching_up) <= 1.2 and min(drained) >= 3,
        "; ".join([*sizes, *([f"ends: {', '.join(ended)}"] if ended else [])]),
        memory_times_away=max(away),
        memory_times_catching_up=max(catching_up),
        drained_times_input=min(drained),
        full_share=report.rungs["none"] / max(1, report.scored),
    )
