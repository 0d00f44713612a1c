"""The judges of misbehaving models can fail, and poison is what it says it is."""

import json

import pytest

from chaos.goals.models import is_mean
from chaos.load import good_event
from chaos.models_bad import POISON, POISON_TOO
from chaos.poison import PoisonedLoad


def test_poison_is_rare_and_every_row_is_another_one() -> None:
    load = PoisonedLoad(every=10, limit=6)
    events = [json.loads(load(number)[0] or b"") for number in range(200)]
    bad = [event for event in events if event["x"] in {POISON, POISON_TOO}]
    assert [event["id"] for event in bad] == ["e5", "e15", "e25", "e35", "e45", "e55"]
    assert len({(event["x"], event.get("note")) for event in bad}) == 6
    assert load(0) == good_event(0)


@pytest.mark.parametrize(
    ("models", "score", "fallback", "right"),
    [
        (["mild"], 0.45, "partial", True),
        (["mild", "alias"], 0.475, "partial", True),
        (["mild", "alias"], 0.45, "partial", False),
        (["mild", "nan"], 0.45, "partial", False),
        (["mild"], float("nan"), "partial", False),
        ([], 0.25, "prior", True),
        ([], 0.25, "none", False),
    ],
)
def test_a_mean_of_anything_else_is_seen(
    models: list[str], score: float, fallback: str, right: bool
) -> None:
    record = {"models": models, "score": score, "fallback": fallback}
    assert is_mean(record, 0.5) is right
