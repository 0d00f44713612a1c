"""Where an event lies among others: its features on common scales, so that distances mean much."""

from collections.abc import Sequence

import numpy as np

from combiner.selection.protocol import Floats

# Two different categories are then as far apart as two numbers that differ by one deviation.
_CATEGORY = np.sqrt(0.5)


class FeatureSpace:
    """Maps float64[N, F] features to float64[N, D] places.

    Numbers are standardised, and a missing one lies in the middle. A category becomes one axis
    for each of its values; a missing or unknown one lies on none of them.

    Args:
        means: by feature; not used for categories.
        scales: standard deviations; 0 (a constant) counts as 1.
        sizes: how many values a category has; 0 for numbers and booleans.
    """

    def __init__(
        self, means: Sequence[float], scales: Sequence[float], sizes: Sequence[int]
    ) -> None:
        assert len(means) == len(scales) == len(sizes)
        self._numbers = np.array([i for i, size in enumerate(sizes) if not size], dtype=np.int64)
        self._categories = [(i, np.arange(float(size))) for i, size in enumerate(sizes) if size]
        self._means = np.array(means, dtype=np.float64)[self._numbers]
        deviations = np.array(scales, dtype=np.float64)[self._numbers]
        self._scales = np.where(deviations > 0, deviations, 1.0)

    def place(self, features: Floats) -> Floats:
        """float64[N, D], without NaN."""
        standard = (features[:, self._numbers] - self._means) / self._scales
        parts = [np.where(np.isnan(standard), 0.0, standard)]
        for column, codes in self._categories:
            parts.append(_CATEGORY * (features[:, column, None] == codes))
        return np.concatenate(parts, axis=1)
