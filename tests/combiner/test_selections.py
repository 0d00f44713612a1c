"""From a configuration and a bundle to a selection, and what is refused with a reason."""

from dataclasses import replace

import numpy as np
import pytest

from combiner.selection.protocol import Context
from combiner.selections import NAMES, Known, Segmentation, SelectionOptions, selection_of
from registry.competence import Competence, Numbers
from streams.errors import ConfigurationError
from streams.features import Feature, FeatureSchema

RANDOM = np.random.default_rng(9)
TRAINED = ("a", "b", "c")
MODELS = ("c", "spare", "a", "b")
SCHEMA = FeatureSchema(
    (Feature("x", "number"), Feature("colour", "category", vocabulary=("blue", "red")))
)
ROWS = np.column_stack([RANDOM.normal(size=120), RANDOM.integers(0, 2, 120)])
LABELS = (RANDOM.random(120) < 0.5).astype(np.float64)
# `a` knows the left, `b` the right, `c` nothing.
SURE = np.where(LABELS > 0, 0.9, 0.1)
ANSWERS = np.stack(
    [np.where(ROWS[:, 0] < 0, SURE, 0.5), np.where(ROWS[:, 0] < 0, 0.5, SURE), 1 - SURE], axis=1
)[:, :, None]
ERRORS = ANSWERS[:, :, 0] - LABELS[:, None]
COMPETENCE = Competence(
    TRAINED,
    Numbers.of(ROWS),
    Numbers.of(ANSWERS),
    Numbers.of(LABELS),
    (0.0, 0.0),
    (1.0, 1.0),
    Numbers.of(np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])),
    Numbers.of(np.array([[0.1, 0.3, 0.9], [0.3, 0.1, 0.9]])),
    Numbers.of(ERRORS.T @ ERRORS / 120),
    Numbers.of(np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.5], [0.5, 0.5, 0.0]])),
)
KNOWN = Known(
    MODELS,
    np.array([False, True, False, False]),
    np.array([5.0, 0.0, 40.0, 10.0]),
    SCHEMA,
    COMPETENCE,
    ANSWERS,
)
FEATURES = np.array([[-2.0, 0.0], [2.0, 1.0]])
PRESENT = np.array([[True, False, True, True]] * 2)
CONTEXT = Context(np.array([3_600_000 * 5, 3_600_000 * 12]), {"device": np.array(["phone", ""])})


def chosen(options: SelectionOptions, known: Known = KNOWN) -> list[str]:
    """For each event the models that count, in the order of the join."""
    weights = selection_of(options, known).weights(FEATURES, CONTEXT, PRESENT)
    return [
        " ".join(m for m, w in zip(MODELS, row, strict=True) if w > 0) for row in weights.tolist()
    ]


@pytest.mark.parametrize(
    "method", [name for name in NAMES if name not in {"segment_weights", "constrained_subset"}]
)
def test_the_columns_are_those_of_the_join(method: str) -> None:
    found = chosen(SelectionOptions(method, best=1))
    if method == "knora_union":
        assert not any("c" in row.split() for row in found), "c is never right"
    else:
        assert found == ["a", "b"]


def test_the_subset_keeps_to_its_budget() -> None:
    assert chosen(SelectionOptions("constrained_subset", max_models=2)) == ["a b", "a b"]
    found = chosen(SelectionOptions("constrained_subset", latency_budget_ms=20.0, max_models=1))
    assert found == ["b", "b"]
    nobody = SelectionOptions("constrained_subset", min_diversity=0.99)
    assert chosen(nobody) == [["a", "b"][int(np.argmin(np.square(ERRORS[:, :2]).mean(axis=0)))]] * 2


def test_weights_of_a_feature_are_learned() -> None:
    options = SelectionOptions("segment_weights", segments=Segmentation("feature:x", edges=(0.0,)))
    weights = selection_of(options, KNOWN).weights(FEATURES, CONTEXT, PRESENT)
    assert weights[0].argmax() == MODELS.index("a")
    assert weights[1].argmax() == MODELS.index("b")
    assert not weights[:, MODELS.index("c")].any(), "worse than the mean label"


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        (Segmentation("header:device", values=("phone",)), ["a", "c"]),
        (Segmentation("hour", edges=(0.0, 8.0)), ["a", "b"]),
        (Segmentation("feature:colour", values=("blue", "red")), ["a", "b"]),
        (Segmentation("feature:x", edges=(0.0,)), ["a", "b"]),
    ],
)
def test_weights_of_segments_are_as_written(segments: Segmentation, expected: list[str]) -> None:
    size = 2 if segments.by.startswith("header") else 3
    tables = ({"a": 1.0}, {"c": 2.0} if size == 2 else {"b": 2.0}, {"c": 1.0})[:size]
    options = SelectionOptions("segment_weights", segments=replace(segments, weights=tables))
    assert chosen(options) == expected


STRANGE = replace(KNOWN, models=("stranger", "spare", "a", "b"))


@pytest.mark.parametrize(
    ("options", "known", "message"),
    [
        (SelectionOptions("best"), KNOWN, "expected one of overall_local_accuracy"),
        (SelectionOptions("knora_union"), replace(KNOWN, competence=None), "train it again"),
        (SelectionOptions("knora_union"), STRANGE, "nothing is known of the model `stranger`"),
        (SelectionOptions("knora_union", neighbours=121), KNOWN, "121 of 120 validation rows"),
        (SelectionOptions("knora_union"), replace(KNOWN, classify=False), "regression has none"),
        (SelectionOptions("segment_weights"), KNOWN, "missing; segment_weights needs it"),
    ],
)
def test_what_does_not_fit_is_refused(options, known, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        selection_of(options, known)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (Segmentation("moon", edges=(1.0,)), "'moon' with 1 edges and 0 values; expected"),
        (Segmentation("feature:z", edges=(1.0,)), "'feature:z'"),
        (Segmentation("feature:x", values=("1",)), "'feature:x' with 0 edges and 1 values"),
        (Segmentation("feature:x", edges=(2.0, 1.0)), "expected ascending numbers"),
        (Segmentation("feature:colour", values=("green",)), "'green' is no value of `colour`"),
        (Segmentation("hour", edges=(8.0, 24.0)), "expected hours, 0 to 23"),
        (Segmentation("hour", edges=(8.0,)), "missing; only for features they are learned"),
        (Segmentation("hour", edges=(8.0,), weights=({}, {}, {})), "3 tables; expected 2"),
        (Segmentation("hour", edges=(8.0,), weights=({"a": -1.0}, {})), "weights.0.a: -1.0"),
        (Segmentation("hour", edges=(8.0,), weights=({"z": 1.0}, {})), "weights.0.z: 1.0"),
    ],
)
def test_segments_that_make_no_sense_are_refused(segments: Segmentation, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        selection_of(SelectionOptions("segment_weights", segments=segments), KNOWN)
