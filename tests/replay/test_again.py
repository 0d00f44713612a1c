"""Events of a cascade decided again: who is asked, where that was recorded and where it was not."""

from collections.abc import Sequence

import msgspec
import numpy as np

from combiner.calibration import Calibrator
from combiner.cascade import CascadeRule, UncertainScore
from combiner.core import Combiner
from combiner.encoding import Names, ScoreEncoder
from combiner.fallback import Ladder
from combiner.health import HealthConfig
from combiner.intake import Member
from combiner.limits import JoinConfig
from combiner.strategies.weighted_mean import WeightedMean
from combiner.window import EventBlock
from replay.again import Again, Recollection
from replay.recorded import Recorded
from streams.frames import PredictionFrame
from streams.records import ScoredRecord
from tests.combiner.decision_kit import block, decider

MODELS = ("cheap", "heavy")
PLACE = ("events", 0)
DEADLINE_NS = 100


def again() -> Again:
    recollection = Recollection()
    nobody = np.zeros(2, dtype=np.bool_)
    rule = UncertainScore(
        CascadeRule(0.4, 0.6), np.array([False, True]),
        Ladder(nobody, frozenset({"partial"}), 1), Calibrator(MODELS, {}),
        WeightedMean(np.ones(2)),
    )  # fmt: skip
    core = Combiner(
        [Member(name, "1", 0.0, 1.0, reserve=False) for name in MODELS],
        JoinConfig(2, DEADLINE_NS, 10**9, 10**10, cascade=rule),
        HealthConfig(10**12, 0.9, 1.0, 10_000, 1),
        decider([1.0, 1.0], cascade=True),
        ScoreEncoder(Names("e@1", MODELS), nobody, explain=False),
        "e@1",
        0,
    )
    return Again(core, recollection, DEADLINE_NS, ["heavy"])


def frame(model: str, block: EventBlock, scores: dict[int, float]) -> PredictionFrame:
    """What a model says about some places of a block."""
    offsets = block.offsets[list(scores)]
    refusals = {0: "not today"} if np.isnan(next(iter(scores.values()))) else {}
    said = np.array(list(scores.values()))
    return PredictionFrame(model, "1", *PLACE, offsets, said, refusals)


def told(
    frames: Sequence[PredictionFrame], events: EventBlock, recorded: Recorded | None = None
) -> list[ScoredRecord]:
    _, scored = again().decide(PLACE, events, frames, recorded)
    return [msgspec.json.decode(value, type=ScoredRecord) for _, value in scored]


def test_scored_anew_heavy_models_answer_where_the_rule_asks() -> None:
    events = block(3, bad=[1])
    cheap = frame("cheap", events, {0: 0.5, 2: 0.1})
    # Of the two answers the first one is a refusal.
    heavy = frame("heavy", events, {0: float("nan"), 2: 0.9})
    first, second = told([cheap, heavy], events)
    assert (first.not_asked, first.missing) == ((), {"heavy": "refused: not today"})
    assert (list(second.not_asked), second.models, second.score) == (["heavy"], ["cheap"], 0.1)
    assert (first.fallback, second.fallback) == ("partial", "none")


def test_as_recorded_those_are_asked_that_were_whatever_the_rule_says() -> None:
    events = block(4)
    recorded = Recorded(int(events.offsets[0]), 4, np.array([True, True]), MODELS)
    # Certain, and asked all the same; then asked in vain; then not asked, out of time; and as
    # the rule says.
    cheap = frame("cheap", events, {0: 0.1, 1: 0.5, 2: 0.5, 3: 0.1})
    heavy = frame("heavy", events, {0: 0.9})
    base = ScoredRecord("", 0.0, 0, 0.0, "e@1", ["cheap"], {}, "none", "", 7.0, "")
    then = [
        msgspec.structs.replace(base, models=list(MODELS)),
        msgspec.structs.replace(base, missing={"heavy": "failed"}, fallback="partial"),
        msgspec.structs.replace(base, not_asked=["heavy"]),
        msgspec.structs.replace(base, not_asked=["heavy"]),
    ]
    for offset, record in zip(events.offsets.tolist(), then, strict=True):
        recorded.add(offset, record)
    assert recorded.present().tolist() == [[True, True], *[[True, False]] * 3]
    found = told([cheap, heavy], events, recorded)
    for new, before in zip(found, then, strict=True):
        assert list(new.models) == list(before.models)
        assert list(new.not_asked) == list(before.not_asked)
        assert new.missing == before.missing
        assert new.fallback == before.fallback
        assert new.latency_ms == before.latency_ms
