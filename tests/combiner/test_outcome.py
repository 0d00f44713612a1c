"""Labels and shown scores of every task, and decisions, records and cached scores of several."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from cache.latest import (
    NO_LABEL,
    Latest,
    LatestClasses,
    LatestScore,
    decode_latest,
    encode_latest,
)
from combiner.calibration import Calibrator
from combiner.decision import Decider, DecisionConfig
from combiner.encoding import Names, ScoreEncoder
from combiner.fallback import RUNGS, Ladder
from combiner.outcome import BINARY, Outcome
from combiner.strategies.mean import Mean
from streams.instants import WallMs
from tests.combiner.decision_kit import NOW_MS, Memory, block, settled

WINES = Outcome("multiclass", ("barbera", "barolo", "grignolino"))
AMOUNT = Outcome("regression")
SHARES = np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4]])


def test_a_binary_label_is_one_from_the_threshold_on() -> None:
    scores = np.array([[0.29], [0.3]])
    assert BINARY.labels(scores, 0.3).tolist() == [0, 1]
    assert BINARY.shown_labels(np.array([0, 1])) == [0, 1]


def test_of_classes_the_likeliest_is_the_label_and_of_equal_ones_the_first() -> None:
    labels = WINES.labels(SHARES, 0.5)
    assert WINES.shown_labels(labels) == ["barolo", "barbera"]
    assert WINES.shown_scores(SHARES, labels) == [0.7, 0.4]


def test_an_amount_has_no_label() -> None:
    labels = AMOUNT.labels(np.array([[12.5]]), 0.5)
    assert labels.tolist() == [NO_LABEL]
    assert AMOUNT.shown_labels(labels) == [None]
    assert AMOUNT.shown_scores(np.array([[12.5]]), labels) == [12.5]


def test_classes_are_known_by_name_whatever_their_order() -> None:
    assert WINES.in_order({"barolo": 0.5, "barbera": 0.2, "grignolino": 0.3}) == [0.2, 0.5, 0.3]
    assert WINES.in_order({"barolo": 0.5, "barbera": 0.5}) is None


def decider(outcome: Outcome, prior: list[float], memory: Memory | None = None) -> Decider:
    members = np.zeros(2, dtype=np.bool_)
    return Decider(
        DecisionConfig(np.array([1.0, 3.0]), prior, 0.5, 60_000, explain=True, outcome=outcome),
        Ladder(members, frozenset({"partial", "cached"}), 1),
        Calibrator(["a", "b"], {}),
        Mean(),
        memory or Memory(),
    )


def of_classes(events: int) -> np.ndarray:
    """Each model's probabilities, by event."""
    rng = np.random.default_rng(3)
    answers = rng.dirichlet(np.ones(3), (events, 2))
    answers[0] = [[0.1, 0.6, 0.3], [0.5, 0.4, 0.1]]
    return answers


def test_decisions_of_classes() -> None:
    rows = settled(("AA", (0, 0)), ("A.", (0, 0)), ("..", (0, 0)))
    answers = of_classes(3)
    rows = _with_scores(rows, answers)
    found = decider(WINES, [0.5, 0.3, 0.2]).decide(rows, ["x", "y", "z"], NOW_MS)
    np.testing.assert_allclose(found.scores[0], [0.3, 0.5, 0.2])
    np.testing.assert_allclose(found.scores[1], answers[1, 0])
    assert found.scores[2].tolist() == [0.5, 0.3, 0.2]
    assert found.labels.tolist() == [1, int(answers[1, 0].argmax()), 0]
    assert [RUNGS[rung] for rung in found.rungs] == ["none", "partial", "prior"]
    # Only `a`, with a quarter of the weight, is for the label of the first.
    assert found.confidence.tolist() == [0.25, 0.25, 0.0]


def test_decisions_of_amounts() -> None:
    rows = settled(("AA", (10.0, -20.0)), ("..", (0, 0)))
    found = decider(AMOUNT, [152.1]).decide(rows, ["x", "y"], NOW_MS)
    assert found.scores[:, 0].tolist() == [-5.0, 152.1]
    assert found.labels.tolist() == [NO_LABEL] * 2
    assert found.confidence.tolist() == [1.0, 0.0]


def _with_scores(rows, answers):
    return replace(rows, scores=np.where(rows.states[:, :, None] == 1, answers, -1e300))


def encoded(outcome: Outcome, prior: list[float], rows) -> list[dict]:
    events = block(len(rows))
    decisions = decider(outcome, prior).decide(rows, events.entities, NOW_MS)
    names = Names("fraud@1", ["a", "b"], outcome)
    encoder = ScoreEncoder(names, np.zeros(2, dtype=np.bool_), explain=True)
    sources = [f"events/0/{offset}" for offset in events.offsets.tolist()]
    waited = np.ones(2, dtype=np.bool_)
    values = encoder.encode(sources, rows, events, decisions, waited, NOW_MS)
    return [msgspec.json.decode(value) for value in values]


def test_a_record_of_classes_names_them() -> None:
    rows = _with_scores(settled(("A.", (0, 0))), of_classes(1))
    (record,) = encoded(WINES, [0.5, 0.3, 0.2], rows)
    answer = {"barbera": 0.1, "barolo": 0.6, "grignolino": 0.3}
    assert (record["label"], record["score"]) == ("barolo", 0.6)
    assert record["scores"] == answer
    assert record["predictions"] == {"a": answer}
    assert record["contributions"] == {"a": answer}


def test_a_record_of_an_amount_has_a_value_and_no_label() -> None:
    (record,) = encoded(AMOUNT, [152.1], settled(("AA", (10.0, -20.0))))
    assert (record["label"], record["score"]) == (None, -5.0)
    assert "scores" not in record
    assert record["predictions"] == {"a": 10.0, "b": -20.0}


def classes(**shares: float) -> LatestClasses:
    label = max(shares, key=lambda name: shares[name])
    at_ms = WallMs(NOW_MS - 1000)
    return LatestClasses("wine@1", shares, label, at_ms, at_ms, "old")


def amount(label: int) -> LatestScore:
    at_ms = WallMs(NOW_MS - 1000)
    return LatestScore("cost@1", 99.5, label, at_ms, at_ms, "old")


@pytest.mark.parametrize(
    ("outcome", "prior", "latest", "score", "rung"),
    [
        (WINES, [0.5, 0.3, 0.2], classes(grignolino=0.8, barolo=0.1, barbera=0.1),
         [0.1, 0.1, 0.8], "cached"),
        (WINES, [0.5, 0.3, 0.2], classes(barolo=0.6, merlot=0.4), [0.5, 0.3, 0.2], "prior"),
        (WINES, [0.5, 0.3, 0.2], amount(1), [0.5, 0.3, 0.2], "prior"),
        (AMOUNT, [152.1], amount(NO_LABEL), [99.5], "cached"),
        (AMOUNT, [152.1], amount(1), [152.1], "prior"),
        (BINARY, [0.2], amount(NO_LABEL), [0.2], "prior"),
        (BINARY, [0.2], classes(barolo=0.6, merlot=0.4), [0.2], "prior"),
    ],
)  # fmt: skip
def test_a_cached_score_counts_if_it_is_of_the_same_task_and_classes(
    outcome: Outcome, prior: list[float], latest: Latest, score: list[float], rung: str
) -> None:
    memory = Memory({"x": latest})
    rows = settled(("..", (0, 0)))
    rows = _with_scores(rows, np.zeros((1, 2, outcome.columns)))
    found = decider(outcome, prior, memory).decide(rows, ["x"], NOW_MS)
    assert found.scores[0].tolist() == score
    assert RUNGS[found.rungs[0]] == rung
    assert decode_latest(encode_latest(latest)) == latest


def test_a_cached_score_of_classes_is_whole_or_nothing() -> None:
    whole = msgspec.msgpack.decode(encode_latest(classes(a=0.5, b=0.3, c=0.2)))
    assert whole[0] == 2
    for broken in ({**whole[2], "a": float("nan")}, {"b": 1.0}, {}):
        value = msgspec.msgpack.encode([*whole[:2], broken, *whole[3:]])
        assert decode_latest(value) is None
