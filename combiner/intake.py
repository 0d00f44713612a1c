"""From the frames of a fetch to the cells of the join: which count, merged, and within range."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from combiner.answers import Cells
from streams.frames import PredictionFrame


@dataclass(frozen=True, slots=True)
class Member:
    """A column of the join: a model, its range, and whether it is only a reserve.

    An empty `version` accepts answers of any version.
    """

    name: str
    version: str
    minimum: float | None
    maximum: float | None
    reserve: bool


def problem_of(frame: PredictionFrame, partition: int, member: Member | None) -> str:
    """Why a frame read from a `predictions` partition does not count; empty when it does."""
    if member is None:
        return "unknown model"
    if member.version and frame.version != member.version:
        return "other version"
    if frame.partition != partition:
        return "wrong partition"
    if frame.scores.ndim != 1:
        return "several columns"
    return ""


def merged(group: Sequence[tuple[int, PredictionFrame]]) -> Cells:
    """Several frames of one model as one; the earliest record stands for all."""
    record, first = group[0]
    if len(group) == 1:
        return Cells(first.offsets, first.scores, record, first.refusals)
    reasons: dict[int, str] = {}
    start = 0
    for _, frame in group:
        if frame.refusals:
            reasons |= {start + place: why for place, why in frame.refusals.items()}
        start += len(frame.offsets)
    return Cells(
        np.concatenate([frame.offsets for _, frame in group]),
        np.concatenate([frame.scores for _, frame in group]),
        record,
        reasons,
    )


def within(member: Member, cells: Cells) -> Cells:
    """The cells with every answer that cannot be one made a refusal."""
    scores = cells.scores
    wrong = np.isinf(scores)
    if member.minimum is not None:
        wrong |= scores < member.minimum
    if member.maximum is not None:
        wrong |= scores > member.maximum
    if not wrong.any():
        return cells
    where = np.flatnonzero(wrong).tolist()
    why = f"outside [{member.minimum}, {member.maximum}]"
    reasons = cells.reasons | {place: f"{scores[place]} {why}" for place in where}
    return Cells(cells.offsets, np.where(wrong, np.nan, scores), cells.record, reasons)
