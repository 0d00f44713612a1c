"""A cascade with real processes: the heavy worker hears of uncertain events alone, and may die."""

from pathlib import Path
from threading import Event

from chaos.plan import PARTITIONS, Plan
from chaos.reader import read_all, wait_for
from chaos.stage import Stage
from registry.bundle import LoadedBundle, load_manifest
from replay.bounds import Bound
from replay.explaining import explained
from replay.output import ScoreOutput
from replay.run import Replay, Result, Wanted
from tests.conftest import AWAKE

CHEAP, HEAVY = "mild", "steep"
# `mild` says 0.2 + 0.5 x, and the tenths from 0 to 0.9 come in turn as x: three are uncertain.
LOW, HIGH = 0.42, 0.58
UNCERTAIN = {5, 6, 7}
RATE_PER_S = 200

PLAN = Plan(
    broker_properties=AWAKE,
    redis=False,
    models={name: f"chaos.models:{name}" for name in (CHEAP, HEAVY)},
    workers={"cheap": [CHEAP], "heavy": [HEAVY]},
    tables={
        "cascade": {"heavy": [HEAVY], "low": LOW, "high": HIGH},
        "combiner": {
            "strategy": "weighted_mean",
            "deadline_ms": 400,
        },
    },
)


def await_answers(stage: Stage) -> None:
    """Wait until the heavy worker, in its present life, has answered some events."""
    answered = f'ensemble_predictions_total{{model="{HEAVY}"}}'
    wait_for(
        lambda: stage.metric("worker-heavy-0", answered) > RATE_PER_S / 4,
        lambda: stage.log("worker-heavy-0"),
    )


def bundle_of(stage: Stage) -> LoadedBundle:
    return load_manifest(Path(stage.settings.ensemble.bundle))


def again(stage: Stage, **how: bool) -> Result:
    """All events decided again."""
    settings = stage.settings
    wanted, output = Wanted(Bound(), Bound(at_end=True), **how), ScoreOutput(settings, None, None)
    return Replay(settings, bundle_of(stage), wanted, output, lambda *_: None, Event()).run()


def test_only_uncertain_events_carry_heavy_answers_and_none_is_lost_with_the_worker() -> None:
    with Stage(PLAN) as stage:
        stage.await_ready()
        with stage.load(RATE_PER_S):
            await_answers(stage)
            stage.kill("worker-heavy-0")
            stage.await_rung("partial")
            stage.await_ready("worker-heavy-0")
            await_answers(stage)
        report = stage.report()
        asked = stage.metric("combiner-0", "ensemble_escalated_events_total")
        rewinds = stage.metric("combiner-0", "ensemble_rewinds_total")
        lost = stage.metric("combiner-0", "ensemble_lost_escalations_total")
        outcomes = read_all(stage.servers, stage.outputs, PARTITIONS)
        as_recorded = again(stage, as_recorded=True, compare=True)
        anew = again(stage, rescore=True)
        certain = next(o.source for o in outcomes if o.record.get("not_asked"))
        told = explained(stage.settings, bundle_of(stage), certain, Event()).facts()
    assert report.clean, report
    assert report.events == report.scored > RATE_PER_S
    found = {int(outcome.id[1:]): outcome.record for outcome in outcomes}
    # A machine that is busy may make the cheap model late, and then nobody is asked.
    in_time = {number: r for number, r in found.items() if CHEAP not in r["missing"]}
    assert {r["fallback"] for r in in_time.values()} == {"none", "partial"}
    uncertain = {number: r for number, r in in_time.items() if number % 10 in UNCERTAIN}
    for number, record in in_time.items():
        if number not in uncertain:
            assert record["missing"] == {}, record
            assert record["models"] == [CHEAP], record
            assert record["not_asked"] == [HEAVY], record
            assert record["fallback"] == "none"
            assert record["confidence"] == 1.0
    with_answer = [r for r in uncertain.values() if r["models"] == [CHEAP, HEAVY]]
    without = [r for r in uncertain.values() if HEAVY in r["missing"]]
    assert with_answer
    assert without
    assert {r["fallback"] for r in with_answer} == {"none"}
    assert {r["fallback"] for r in without} == {"partial"}
    assert len(with_answer) + len(without) == len(uncertain), "each was asked about"
    assert lost == 0
    # What is decided again is asked about again.
    assert asked == len(uncertain) or (rewinds and asked > len(uncertain))
    assert len(in_time) > 0.9 * len(found)
    agreement = as_recorded.agreement
    assert agreement is not None
    assert agreement.compared == len(found)
    assert agreement.same_score == agreement.same_rung == len(found), agreement
    assert anew.rungs == {"none": len(found)}, "all that are asked answer"
    assert told["same"]
    assert [row["used"] for row in told["models"]] == [True, False]
    assert told["models"][1]["remark"].startswith("not asked")
