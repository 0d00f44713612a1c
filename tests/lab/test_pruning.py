"""Greedy selection against trying it out, and on members of which one is useless."""

import numpy as np

from lab.pruning import greedy_weights

RANDOM = np.random.default_rng(8)
LABELS = (RANDOM.random(500) < 0.4).astype(np.float64)
ANSWERS = np.clip(
    LABELS[:, None] * 0.4 + 0.3 + RANDOM.normal(0, [0.2, 0.3, 0.5, 0.4], (500, 4)), 0, 1
)


def test_each_round_takes_the_member_that_helps_most() -> None:
    taken: list[int] = []
    for _ in range(7):
        losses = [
            np.square(ANSWERS[:, [*taken, one]].mean(axis=1) - LABELS).mean() for one in range(4)
        ]
        taken.append(int(np.argmin(losses)))
    expected = np.bincount(taken, minlength=4) / 7
    np.testing.assert_allclose(greedy_weights(ANSWERS, LABELS, 7), expected)


def test_a_member_that_knows_nothing_goes() -> None:
    useless = np.column_stack([ANSWERS, 1.0 - ANSWERS[:, 0]])
    found = greedy_weights(useless, LABELS)
    assert found[4] == 0.0
    assert abs(found.sum() - 1.0) < 1e-12
