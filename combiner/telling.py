"""Explanations and latencies in the words of scored records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from combiner.explanation import Explanation
from combiner.latency import STAGES, stages
from combiner.outcome import Outcome
from combiner.settled import Settled
from streams.instants import NS_PER_MS, WallMs
from streams.records import Explained, Stages

_DIGITS = 6


def explained(
    found: Explanation | None, models: Sequence[str], outcome: Outcome, count: int
) -> Sequence[Explained | None]:
    """For each of N events what there is to say; None where no model made the score."""
    if found is None:
        return [None] * count
    rows = zip(
        np.isnan(found.dispersion).tolist(),
        _rounded(found.agreement),
        _rounded(found.dispersion),
        _rounded(found.entropy),
        found.consensus.tolist(),
        found.decisive.tolist(),
        _rounded(found.without),
        strict=True,
    )
    if outcome.task == "regression":
        return [
            None
            if empty
            else Explained(dispersion=spread, without=_without(without, models, outcome))
            for empty, _, spread, _, _, _, without in rows
        ]
    return [
        None
        if empty
        else Explained(
            agreement,
            spread,
            entropy,
            consensus,
            [model for model, yes in zip(models, decisive, strict=True) if yes],
            _without(without, models, outcome),
        )
        for empty, agreement, spread, entropy, consensus, decisive, without in rows
    ]


def _without(
    scores: Sequence[Sequence[float]], models: Sequence[str], outcome: Outcome
) -> Mapping[str, float | dict[str, float]]:
    """Model → the score without it, where there is one (NaN is none)."""
    return {
        model: row[0] if outcome.columns == 1 else outcome.by_class(row)
        for model, row in zip(models, scores, strict=True)
        if row[0] == row[0]
    }


def latencies(
    settled: Settled,
    used: NDArray[np.bool_],
    event_ms: NDArray[np.int64],
    models: Sequence[str],
    now: tuple[int, WallMs],
) -> Sequence[Stages | None]:
    """For each of N events where its time went; None where that was not kept, or nobody answered.

    Args:
        settled: the rows.
        used: bool[N, M], whose answers made the scores.
        event_ms: int64[N], timestamps of the events' records.
        models: M names.
        now: monotonic nanoseconds and wall-clock milliseconds of the decision.
    """
    count = len(settled)
    if not settled.stamps.shape[-1]:
        return [None] * count
    now_ns, now_ms = now
    arrived_ns = np.where(used, settled.stamps[:, :, 0], -np.inf)
    last = arrived_ns.argmax(axis=1)
    nobody = np.count_nonzero(used, axis=1) == 0
    of_last = settled.stamps[np.arange(count), last]
    of_last[nobody] = 0.0
    # In a replay nothing is sent.
    known = of_last[:, 1] > 0.0
    arrived_ms = now_ms - (now_ns - of_last[:, 0]) / NS_PER_MS
    found = stages(
        event_ms.astype(np.float64),
        of_last[:, 1],
        of_last[:, 2],
        of_last[:, 3],
        arrived_ms,
        np.full(count, float(now_ms)),
    )
    assert found.shape[-1] == len(STAGES)
    return [
        Stages(models[member], *row) if yes else None
        for yes, member, row in zip(
            known.tolist(), last.tolist(), np.round(found, 3).tolist(), strict=True
        )
    ]


def _rounded(values: NDArray[np.float64]) -> list[Any]:
    rounded: list[Any] = np.round(values, _DIGITS).tolist()
    return rounded
