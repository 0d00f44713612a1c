"""Explanations, against a plain computation of the same for one event and member at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from combiner.explanation import Labels, explain, leave_one_out

WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0])


def weighted_mean(answers: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Rows whose members weigh nothing count them alike."""
    weights = WEIGHTS * used
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, used.astype(float))
    cells = np.where(used[:, :, None], answers, 0.0)
    return (cells * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1)[:, None]


def rescoring(answers: np.ndarray):
    def of(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        return weighted_mean(answers[rows], present)

    return of


def label(threshold: float):
    def of(scores: np.ndarray) -> np.ndarray:
        if scores.shape[1] > 1:
            return scores.argmax(axis=1)
        return (scores[:, 0] >= threshold).astype(np.int64)

    return of


LABELS = Labels(label(0.5), label(0.4))


@st.composite
def batches(draw):
    count, columns = draw(st.integers(0, 12)), draw(st.sampled_from([1, 3]))
    shape = (count, len(WEIGHTS))
    used = draw(hnp.arrays(np.bool_, shape))
    answers = draw(hnp.arrays(np.float64, (*shape, columns), elements=st.floats(0, 1)))
    answers = np.where(used[:, :, None], answers, np.nan)
    scores = np.full((count, columns), 0.3)
    some = used.any(axis=1)
    scores[some] = weighted_mean(answers[some], used[some])
    return answers, used, scores


@given(batches())
def test_it_is_what_one_finds_event_by_event(batch) -> None:
    answers, used, scores = batch
    found = explain(rescoring(answers), answers, used, used, scores, WEIGHTS, LABELS)
    for row in range(len(scores)):
        members = np.flatnonzero(used[row])
        own = LABELS.ensemble(scores[row : row + 1])[0]
        theirs = {m: LABELS.member(answers[row, m : m + 1])[0] for m in members}
        if not len(members):
            assert np.isnan([found.agreement[row], found.dispersion[row], found.entropy[row]]).all()
            assert not found.consensus[row]
            assert not found.decisive[row].any()
            continue
        assert found.consensus[row] == all(each == own for each in theirs.values())
        weight = {m: WEIGHTS[m] for m in members}
        if not sum(weight.values()):
            weight = dict.fromkeys(members, 1.0)
        agreeing = sum(weight[m] for m in members if theirs[m] == own)
        assert found.agreement[row] == pytest.approx(agreeing / sum(weight.values()))
        spread = np.sqrt(answers[row, members].var(axis=0).sum())
        assert found.dispersion[row] == pytest.approx(spread, abs=1e-12)
        for m in range(len(WEIGHTS)):
            others = used[row : row + 1].copy()
            others[0, m] = False
            if not used[row, m] or not others.any():
                assert np.isnan(found.without[row, m]).all()
                assert not found.decisive[row, m]
                continue
            alone = weighted_mean(answers[row : row + 1], others)
            np.testing.assert_allclose(found.without[row, m], alone[0], rtol=1e-12)
            assert found.decisive[row, m] == (LABELS.ensemble(alone)[0] != own)


def test_a_member_that_carries_the_label_is_decisive() -> None:
    answers = np.array([[[0.9], [0.45], [0.4], [np.nan]]])
    used = np.array([[True, True, True, False]])
    scores = weighted_mean(answers, used)
    found = explain(rescoring(answers), answers, used, used, scores, WEIGHTS, LABELS)
    assert scores[0, 0] > 0.5
    assert found.decisive.tolist() == [[True, False, False, False]]
    assert found.consensus.tolist() == [True]
    assert found.agreement.tolist() == [1.0]


def test_a_member_alone_is_never_called_decisive() -> None:
    answers, used = np.array([[[0.9], [np.nan]]]), np.array([[True, False]])
    found = explain(
        lambda rows, _: answers[rows, 0], answers, used, used, answers[:, 0], WEIGHTS[:2], LABELS
    )
    assert np.isnan(found.without).all()
    assert not found.decisive.any()
    assert found.dispersion.tolist() == [0.0]


def test_regression_knows_spread_and_leave_one_out_but_no_labels() -> None:
    answers, used = np.array([[[10.0], [30.0], [20.0], [0.0]]]), np.ones((1, 4), np.bool_)
    scores = weighted_mean(answers, used)
    found = explain(rescoring(answers), answers, used, used, scores, WEIGHTS, None)
    assert found.dispersion[0] == pytest.approx(answers.std())
    assert found.without[0, 0, 0] == pytest.approx((2 * 30 + 0.5 * 20) / 2.5)
    assert np.isnan([found.agreement[0], found.entropy[0]]).all()
    assert not found.decisive.any()


def test_leaving_out_costs_one_combination_for_each_member_whatever_the_number_of_events() -> None:
    calls = []

    def counted(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        calls.append(len(rows))
        return weighted_mean(answers[rows], present)

    answers = np.random.default_rng(0).random((5000, 4, 1))
    everybody = np.ones((5000, 4), np.bool_)
    leave_one_out(counted, everybody, everybody, 1)
    assert calls == [5000] * 4


def test_another_member_may_take_the_place_of_the_one_that_is_gone() -> None:
    """Of three that answered, the best by their order decides alone."""
    answers = np.array([[[0.9], [0.2], [0.6]]])

    def best(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        return answers[rows, present.argmax(axis=1)]

    used, present = np.array([[True, False, False]]), np.ones((1, 3), np.bool_)
    found = explain(best, answers, used, present, np.array([[0.9]]), np.ones(3), LABELS)
    assert found.without[0, 0, 0] == 0.2
    assert np.isnan(found.without[0, 1:]).all()
    assert found.decisive.tolist() == [[True, False, False]]


def test_nothing_that_is_given_is_changed() -> None:
    answers, used = np.random.default_rng(0).random((5, 4, 1)), np.ones((5, 4), np.bool_)
    before = answers.copy(), used.copy()
    scores = weighted_mean(answers, used)
    explain(rescoring(answers), answers, used, used, scores, WEIGHTS, LABELS)
    np.testing.assert_array_equal(answers, before[0])
    np.testing.assert_array_equal(used, before[1])
