"""How fast a member answers on this machine."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from registry.bundle import LoadedBundle
from streams.settings import ModelSettings
from workers.loading import load_model

_TRIALS = 5
_TRIAL_S = 0.02
_US_PER_S = 1e6


def microseconds_a_row(
    bundle: LoadedBundle, name: str, rows: NDArray[np.float64], sizes: Sequence[int]
) -> list[float]:
    """What a row takes a member, in batches of each size; the best of some tries.

    Args:
        bundle: where it is.
        name: the member.
        rows: float64[N, F], repeated as needed.
        sizes: of the batches.

    Raises:
        BundleError: the model cannot be loaded.
    """
    model = load_model(ModelSettings(name=name), bundle)
    found = []
    for size in sizes:
        batch = np.ascontiguousarray(np.resize(rows, (size, rows.shape[1])))
        best_s = np.inf
        for _ in range(_TRIALS):
            calls, began_s = 0, time.perf_counter()
            while (spent_s := time.perf_counter() - began_s) < _TRIAL_S:
                model.predict(batch)
                calls += 1
            best_s = min(best_s, spent_s / calls)
        found.append(best_s / size * _US_PER_S)
    return found
