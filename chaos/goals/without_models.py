"""Finals that models did not, or did too late, contribute to."""

from contextlib import suppress

from chaos.goals.goal import Result, goal
from chaos.goals.kills import RATE_PER_S, SETTLED_MS, times
from chaos.plan import PRIOR, Plan
from chaos.reader import wait_for
from chaos.stage import Stage

# What a model that is behind may need to answer the rest.
LATE_S = 30.0
RATE_WITHOUT = RATE_PER_S / 2
# The rungs that stand for models are used up: a cached score would hide the prior.
NO_CACHE = {"fallback": {"ladder": ["partial", "reserve", "prior"]}}


@goal(
    "19",
    "every worker stopped for 5 s, and started again",
    "0 lost, 0 duplicates; every final is the prior and says so; /readyz 503; full ensembles again",
    count=3,
)
def without_any_model(count: int) -> Result:
    """The combiner alone, and then all of them."""
    silent_zeros = with_models = unready = away = 0
    with Stage(Plan(tables=NO_CACHE)) as stage:
        stage.await_ready()
        with stage.load(RATE_WITHOUT):
            stage.await_flow(SETTLED_MS)
            for _ in range(count):
                for name in stage.names("worker"):
                    stage.supervisor.stop(name)
                # What models said before they went is used up.
                stage.rest(1.0)
                before = len(stage.reader.outcomes)
                stage.rest(4.0)
                finals = stage.reader.outcomes[before:]
                away += len(finals)
                with_models += sum(final.rung != "prior" for final in finals)
                silent_zeros += sum(f" {PRIOR!r} " not in final.content for final in finals)
                unready += not stage.ready("combiner-0")
                for name in stage.names("worker"):
                    stage.supervisor.start(name)
                stage.await_ready()
                stage.await_flow(SETTLED_MS)
            stage.await_rung("none")
        report = stage.report()
    return Result.of(
        report,
        not with_models and not silent_zeros and away > 0 and unready == count,
        "" if unready == count else "/readyz of the combiner stays 200: it has its partitions",
        finals_without_models=away,
        not_flagged=with_models,
        not_the_prior=silent_zeros,
        times_not_ready=unready,
        **times(report),
    )


@goal(
    "20",
    "a model that answers 50 ms after the deadline, always",
    "0 second finals; every late answer counted",
    count=20,
)
def late_answers(count: int) -> Result:
    """For so many seconds."""
    models = {
        "mild": "chaos.models:mild",
        "steep": "chaos.models:steep",
        "tardy": "chaos.models:tardy",
    }
    workers = {"one": ("mild", "steep"), "late": ("tardy",)}
    with Stage(Plan(models=models, workers=workers)) as stage:
        stage.await_ready()
        with stage.load(RATE_WITHOUT):
            stage.await_flow()
            stage.rest(float(count))
        report = stage.report()
        partial = report.rungs["partial"]

        def late() -> float:
            return stage.metric("combiner-0", 'ensemble_late_predictions_total{model="tardy"}')

        # The model may be far behind by now; its answers are counted when they come.
        with suppress(AssertionError):
            wait_for(lambda: late() >= partial, lambda: f"{late()} of {partial}", LATE_S)
        counted = int(late())
    return Result.of(
        report,
        counted >= 0.99 * partial > 0,
        "",
        finals_without_it=partial,
        late_answers_counted=counted,
        **times(report),
    )
