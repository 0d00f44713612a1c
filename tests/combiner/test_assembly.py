"""From the configuration to a quorum, and what it refuses."""

from typing import Any

import numpy as np
import pytest

from combiner.assembly import cascade_of, quorum_of
from combiner.calibration import Calibrator
from combiner.cascade import Cascade
from combiner.fallback import Ladder
from combiner.intake import Member
from combiner.quorum import CertainLabel, Quorum, ShareQuorum
from combiner.refinement import NO_REFINEMENT
from combiner.settled import ANSWERED, WAITING
from combiner.strategies.protocol import Strategy
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import Task
from streams.errors import ConfigurationError
from streams.settings import Settings

ENDLESS = Member("b", "", None, 1.0, reserve=False)


class Opaque(WeightedMean):
    name = "opaque"


def quorum(
    *others: Member,
    strategy: type[WeightedMean] = WeightedMean,
    fallback: dict[str, Any] | None = None,
    **combiner: Any,
) -> Quorum | None:
    members = [Member("a", "", 0.0, 1.0, reserve=False), *others]
    settings = Settings.model_validate(
        {
            "models": [
                {"name": one.name, "external": True, "reserve": one.reserve} for one in members
            ],
            "combiner": combiner,
            "fallback": fallback or {},
        }
    )
    made: Strategy = strategy(np.ones(len(members)))
    return quorum_of(settings, members, made, Calibrator([], {}))


def member(name: str, *, reserve: bool = False) -> Member:
    return Member(name, "", 0.0, 1.0, reserve=reserve)


def test_all_are_waited_for_unless_said_otherwise() -> None:
    assert quorum() is None
    assert quorum(quorum_share=0.3) is None


def test_a_share_of_the_members_and_not_of_the_reserves() -> None:
    made = quorum(member("b"), member("r", reserve=True), quorum="share", quorum_share=0.5)
    assert isinstance(made, ShareQuorum)
    states = np.array([[ANSWERED, WAITING, WAITING], [WAITING, WAITING, ANSWERED]], dtype=np.uint8)
    assert made.met(np.zeros((2, 3)), states).tolist() == [True, False]


def test_as_many_answers_as_the_rung_partial_needs() -> None:
    made = quorum(member("b"), quorum="share", fallback={"minimum_members": 2})
    assert made is not None
    states = np.array([[ANSWERED, WAITING], [ANSWERED, ANSWERED]], dtype=np.uint8)
    assert made.met(np.zeros((2, 2)), states).tolist() == [False, True]


def test_a_certain_label_needs_members_with_a_range() -> None:
    assert isinstance(quorum(member("b"), quorum="certain"), CertainLabel)
    with pytest.raises(ConfigurationError, match="`b` may answer anything"):
        quorum(ENDLESS, quorum="certain")
    assert quorum(ENDLESS, quorum="share") is not None


def test_a_reserve_may_answer_anything() -> None:
    reserve = Member("r", "", None, None, reserve=True)
    assert isinstance(quorum(reserve, quorum="certain"), CertainLabel)


def test_a_strategy_of_which_certainty_cannot_be_told_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="strategy `opaque`; expected one of best_single"):
        quorum(quorum="certain", strategy=Opaque)
    assert quorum(quorum="share", strategy=Opaque) is not None


@pytest.mark.parametrize("kind", ["share", "certain"])
def test_a_quorum_needs_the_rung_partial(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="without the rung `partial`"):
        quorum(quorum=kind, fallback={"ladder": ["cached", "prior"]})


def cascade(task: Task = "binary", **table: Any) -> Cascade | None:
    models = [{"name": name, "external": True} for name in "abc"]
    settings = Settings.model_validate({"models": models, "cascade": table})
    ladder = Ladder(np.zeros(3, np.bool_), frozenset(), 1)
    strategy = WeightedMean(np.ones(3))
    return cascade_of(settings, ladder, Calibrator([], {}), strategy, NO_REFINEMENT, task)


def test_all_are_asked_about_everything_unless_said_otherwise() -> None:
    assert cascade() is None
    assert cascade("regression") is None


def test_a_cascade_as_it_is_configured() -> None:
    made = cascade(heavy=["b"], low=0.4, high=0.6, max_dispersion=0.1)
    assert made is not None
    assert made.heavy.tolist() == [False, True, False]
    scores = np.array([[0.5, 0.0, 0.5], [0.9, 0.5, 0.9], [0.5, 0.0, 1.0]])[:, :, None]
    found = made.escalates(scores, np.full((3, 3), ANSWERED, dtype=np.uint8))
    assert found.tolist() == [True, False, True]


def test_a_cascade_of_amounts_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"cascade\.heavy: of an amount"):
        cascade("regression", heavy=["b"])
