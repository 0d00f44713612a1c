"""Processes that sleep while a twin takes their place, and wake up."""

from contextlib import ExitStack

from chaos.goals.goal import Result, goal
from chaos.goals.kills import RATE_PER_S, SETTLED_MS, times
from chaos.plan import Plan
from chaos.stage import Stage
from streams.errors import FencedError

ASLEEP_S = 15.0
# Asleep at the same time, each with its own slot and twin.
TOGETHER = ("combiner-0", "worker-one-0")


@goal(
    "4",
    "SIGSTOP of a combiner and of a worker for 15 s, a twin with the same slot meanwhile, SIGCONT",
    "0 lost, 0 duplicates; the one that slept is fenced, ends with another code than 0, and is "
    "started again",
    count=20,
)
def zombies(count: int) -> Result:
    """Two at a time; the twins end once the ones that slept are gone."""
    codes: list[int | None] = []
    with Stage(Plan(combiners=2)) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            stage.await_flow(SETTLED_MS)
            while len(codes) < count:
                asleep = [(name, stage.freeze(name)) for name in TOGETHER]
                with ExitStack() as twins:
                    for name in TOGETHER:
                        twins.enter_context(stage.beside(name))
                    stage.rest(ASLEEP_S)
                    for _, pid in asleep:
                        stage.thaw(pid)
                    codes += [stage.await_end(name, pid) for name, pid in asleep]
                stage.await_ready(*TOGETHER)
                stage.await_flow(SETTLED_MS)
        report = stage.report()
    fenced = codes.count(FencedError.exit_code)
    return Result.of(
        report,
        0 not in codes,
        f"ended with {sorted({str(code) for code in codes})}",
        sleepers=len(codes),
        fenced=fenced,
        **times(report),
    )
