"""Whether one way of scoring is better than another, from the folds of a repeated validation.

The training sets of the folds overlap, so their results are not independent, and the plain t test
is far too sure of itself. Nadeau & Bengio ("Inference for the generalization error", Machine
Learning 52, 2003) correct its variance: with J results, each on `n_test` rows after training on
`n_train`, it is `(1 / J + n_test / n_train)` times the variance of the results. For repeated
cross-validation see Bouckaert & Frank (PAKDD 2004).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, its corrected confidence interval, and the p-value of it being 0."""

    mean: float
    low: float
    high: float
    p: float


def corrected_interval(results: Floats, test_share: float) -> Interval:
    """The corrected resampled t interval of J results.

    Args:
        results: float64[J], at least 2; usually differences.
        test_share: rows tested divided by rows trained on; for k folds 1 / (k - 1).
    """
    from scipy import stats

    count = len(results)
    assert count > 1
    mean = float(results.mean())
    error = float(np.sqrt((1.0 / count + test_share) * results.var(ddof=1)))
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2.0, count - 1)) * error
    # Without any spread, a difference is certain and none is none.
    away = abs(mean) / error if error > 0 else np.inf if mean else 0.0
    return Interval(mean, mean - reach, mean + reach, 2.0 * float(stats.t.sf(away, count - 1)))
