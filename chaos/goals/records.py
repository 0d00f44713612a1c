"""Records and partitions that are not where they were: deleted by retention, or added."""

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from chaos.goals.goal import Result, goal
from chaos.load import Load
from chaos.plan import Plan
from chaos.reader import read_all, wait_for
from chaos.stage import Stage
from chaos.verdict import Outcome, judge
from streams.errors import MissingRecordsError

RATE_PER_S = 1000
SETTLED_MS = 200
TIMEOUT_S = 30.0
_MISSING = "ensemble_missing_records_total"


def _delete(stage: Stage) -> int:
    """Delete all events that were sent while nobody read; how many the combiner never saw."""
    topic = stage.settings.topics.inputs[0]
    admin = AdminClient({"bootstrap.servers": stage.servers})
    ends = {TopicPartition(topic, p, -1) for p in range(stage.plan.partitions)}  # -1 is the end
    for future in admin.delete_records(list(ends)).values():
        future.result(TIMEOUT_S)
    return len(stage.acknowledged.sent_ns.keys() - stage.reader.sources)


@goal(
    "10",
    "events behind the committed offsets are deleted while the combiner is down",
    "`stop`: exit code 10, named, not restarted; `earliest`: every missing event counted, and the "
    "rest scored; never a silent skip",
    count=1,
)
def deleted_by_retention(count: int) -> Result:
    """Once for each policy."""
    figures: dict[str, int] = {}
    held = True
    for policy in ("stop", "earliest") * count:
        with Stage(Plan(tables={"kafka": {"on_missing_offsets": policy}})) as stage:
            stage.await_ready()
            with stage.load(RATE_PER_S):
                stage.await_flow(SETTLED_MS)
            stage.await_outcomes()
            stage.supervisor.stop("combiner-0")
            with stage.load(RATE_PER_S):
                stage.rest(1)
            unread = _delete(stage)
            stage.supervisor.start("combiner-0")
            if policy == "stop":
                code = MissingRecordsError.exit_code
                wait_for(
                    lambda stage=stage: stage.states()["combiner-0"].state == "failed",  # type: ignore[misc]
                    lambda stage=stage: stage.log("combiner-0"),  # type: ignore[misc]
                )
                named = "were deleted before they were read" in stage.log("combiner-0")
                figures["exit_code"] = stage.states()["combiner-0"].exit_code or 0
                held &= named and figures["exit_code"] == code
                continue
            stage.await_ready("combiner-0")
            wait_for(
                lambda stage=stage, unread=unread: stage.metric("combiner-0", _MISSING) >= unread,  # type: ignore[misc]
                lambda stage=stage: stage.log("combiner-0"),  # type: ignore[misc]
            )
            with stage.load(RATE_PER_S):
                stage.await_flow(SETTLED_MS)
            report = stage.report(wait=lambda stage=stage, unread=unread: _rest(stage, unread))  # type: ignore[misc]
            figures |= {
                "deleted": unread,
                "counted": int(stage.metric("combiner-0", _MISSING)),
                "lost": len(report.after.lost),
                "duplicates": len(report.after.duplicates),
            }
            held &= figures["deleted"] == figures["counted"] == figures["lost"]
    return Result(figures, held, "lost are exactly those that were deleted unread")


def _rest(stage: Stage, unread: int) -> None:
    """Wait for the outcomes of all events but those that were deleted."""
    wait_for(
        lambda: len(stage.reader.sources) >= len(stage.acknowledged.sent_ns) - unread,
        lambda: f"{len(stage.reader.sources)} outcomes",
    )


@goal(
    "partitions",
    "partitions are added to the inputs, and some seconds later to all other topics",
    "exit code 5 that names both counts while they differ; then 0 lost, 0 duplicates by itself",
    count=1,
)
def partitions_added(count: int) -> Result:
    """Events go to the new partitions as soon as they are there."""
    del count
    with Stage() as stage:
        stage.await_ready()
        topics, more = stage.settings.topics, stage.plan.partitions + 2
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
        _grow(stage, topics.inputs[0], to=more)
        wait_for(
            lambda: f"has {more} partitions" in stage.log("combiner-0"),
            lambda: stage.log("combiner-0"),
        )
        stage.rest(5)
        codes = {code for name, code in stage.ended if not name.startswith("monitor")}
        for name in (topics.predictions, topics.scored, topics.dead_letters):
            _grow(stage, name, to=more)
        load = Load(
            stage.servers,
            topics.inputs[0],
            more,
            RATE_PER_S,
            stage.acknowledged,
            first=len(stage.acknowledged.sent_ns),
        )
        stage.rest(5)
        load.close()
        found = _await_all(stage, more)
    verdict = judge(stage.acknowledged.sent_ns.keys(), found)
    return Result(
        {
            "events": len(stage.acknowledged.sent_ns),
            "lost": len(verdict.lost),
            "duplicates": len(verdict.duplicates) + len(verdict.contradictory),
            "on new partitions": sum(outcome.place[1] >= more - 2 for outcome in found),
            "exit codes": ", ".join(map(str, codes)),
        },
        verdict.clean and codes == {5},
    )


def _await_all(stage: Stage, partitions: int) -> list[Outcome]:
    """Every committed outcome, once there is one for each event."""
    found: list[Outcome] = []

    def complete() -> bool:
        found[:] = read_all(stage.servers, stage.outputs, partitions, whole=False)
        return stage.acknowledged.sent_ns.keys() <= {outcome.source for outcome in found}

    wait_for(complete, lambda: stage.log("combiner-0"))
    return found


def _grow(stage: Stage, topic: str, *, to: int) -> None:
    admin = AdminClient({"bootstrap.servers": stage.servers})
    for future in admin.create_partitions([NewPartitions(topic, to)]).values():
        future.result(TIMEOUT_S)
