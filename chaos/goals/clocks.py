"""Clocks that are wrong: those of producers, and the wall clock of every process."""

from chaos.goals.goal import Result, goal
from chaos.goals.kills import RATE_PER_S, SETTLED_MS, times
from chaos.load import Event, good_event, skewed_ms
from chaos.plan import ANY_TIMESTAMP, Plan
from chaos.stage import Stage
from streams.instants import NS_PER_MS

STEP_S, EVERY_S = 600, 2


def skewed_event(number: int) -> Event:
    """Events of four producers, each with a clock of its own."""
    value, key, _ = good_event(number)
    return value, key, skewed_ms(number)


@goal(
    "21",
    "timestamps an hour ahead, an hour behind, and of 1970; the wall clock of every process steps "
    "by 10 minutes, ahead and back, every 2 s",
    "0 lost, 0 duplicates; no final before its deadline without a model, none more than 100 ms "
    "behind it",
    count=30,
)
def wrong_clocks(count: int) -> Result:
    """For so many seconds; a final without a model that came before the deadline was too early."""
    step = ("--step-clock", str(STEP_S), "--every", str(EVERY_S))
    names = ("worker-one-0", "worker-two-0", "combiner-0", "monitor")
    with Stage(Plan(broker_properties=ANY_TIMESTAMP, wrapped=dict.fromkeys(names, step))) as stage:
        stage.await_ready()
        with stage.load(100):
            stage.await_flow(SETTLED_MS)
            stage.rest(2)  # first calls of everything
        stage.await_outcomes()
        with stage.load(RATE_PER_S / 2, skewed_event):
            stage.await_flow(SETTLED_MS)  # the producer's first connection, too
            settled = stage.acknowledged.sent_ns.copy()
            stage.rest(float(count))
        report = stage.report()
        since = [each for each in stage.reader.outcomes if each.source not in settled]
        stage.acknowledged.sent_ns = {
            source: at for source, at in stage.acknowledged.sent_ns.items() if source not in settled
        }
        incomplete = [each for each in since if each.rung != "none"]
        deadline_ns = stage.settings.combiner.deadline_ms * NS_PER_MS
        sent = stage.acknowledged.sent_ns
        early = sum(each.read_ns - sent[each.source] < deadline_ns for each in incomplete)
        late = stage.timing(since).late
    return Result.of(
        report,
        not early and not late,
        "the clock of the Kafka client itself does not step",
        finals_without_a_model=len(incomplete),
        early=early,
        late=late,
        **times(report),
    )
