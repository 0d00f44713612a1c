"""The default members of every task, through their adapters: their own answers, and as many."""

import importlib

import numpy as np
import pytest

from lab.members import MEMBERS, one_thread
from lab.regressors import REGRESSORS
from tests.workers.test_adapter_contract import SCHEMA, make_matrix

CASES = [("multiclass", member) for member in MEMBERS.values()]
CASES += [("regression", member) for member in REGRESSORS.values()]


@pytest.mark.parametrize(("task", "member"), CASES, ids=[f"{t}-{m.name}" for t, m in CASES])
def test_a_default_member_answers_as_it_did_before_it_was_saved(task: str, member) -> None:
    matrix = make_matrix(1, 400)
    known = np.nan_to_num(matrix)
    truth = known[:, 0] + known[:, 1] * known[:, 2] + (known[:, 3] == 2)
    if task == "multiclass":
        truth = np.digitize(truth, [0.0, 0.8])
    with one_thread():
        estimator = member.fit(SCHEMA, 0, matrix, truth)
        again = member.fit(SCHEMA, 0, matrix, truth)
    adapter = importlib.import_module(f"workers.adapters.{member.format.replace('-', '_')}")
    data = adapter.save(estimator)
    assert data == adapter.save(again)
    model = adapter.load(data, name="m", version="v", minimum=None, maximum=None)
    asked = make_matrix(2, 60)
    ask = estimator.predict_proba if task == "multiclass" else estimator.predict
    answers = model.predict(asked)
    assert answers.shape == ((60, 3) if task == "multiclass" else (60,))
    np.testing.assert_allclose(answers, ask(asked), rtol=1e-9, atol=1e-12)
    alone = np.concatenate([model.predict(asked[i : i + 1]) for i in range(60)])
    np.testing.assert_allclose(alone, answers, rtol=1e-9)
    if task == "multiclass":
        np.testing.assert_allclose(answers.sum(axis=1), 1.0, rtol=0, atol=1e-5)
