"""From the frames of a fetch to the cells of the join: which count, merged, and within range."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from combiner.answers import Cells
from streams.columns import Columns
from streams.frames import SHARES_TOLERANCE, FrameError, PredictionFrame, decode_frames


@dataclass(frozen=True, slots=True)
class Member:
    """A column of the join: a model, its range, and whether it is only a reserve.

    An empty `version` accepts answers of any version. With several `columns` an answer is that many
    probabilities.
    """

    name: str
    version: str
    minimum: float | None
    maximum: float | None
    reserve: bool
    columns: int = 1


def frames_of(columns: Columns) -> tuple[list[tuple[int, PredictionFrame]], dict[int, str]]:
    """The frames of a fetch with the offsets of their records; and by offset why one has none."""
    frames: list[tuple[int, PredictionFrame]] = []
    problems: dict[int, str] = {}
    for offset, value in zip(columns.offsets.tolist(), columns.values, strict=True):
        try:
            frames += [(offset, frame) for frame in decode_frames(value)]
        except FrameError as error:
            problems[offset] = str(error)
    return frames, problems


def problem_of(frame: PredictionFrame, partition: int, member: Member | None) -> str:
    """Why a frame read from a `predictions` partition does not count; empty when it does."""
    if member is None:
        return "unknown model"
    if member.version and frame.version != member.version:
        return "other version"
    if frame.partition != partition:
        return "wrong partition"
    wanted = () if member.columns == 1 else (member.columns,)
    if frame.scores.shape[1:] != wanted:
        return "several columns" if member.columns == 1 else "other columns"
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
    if member.columns > 1:
        return _shares_within(member, cells, wrong)
    if not wrong.any():
        return cells
    where = np.flatnonzero(wrong).tolist()
    why = f"outside [{member.minimum}, {member.maximum}]"
    reasons = cells.reasons | {place: f"{scores[place]} {why}" for place in where}
    return replace(cells, scores=np.where(wrong, np.nan, scores), reasons=reasons)


def _shares_within(member: Member, cells: Cells, wrong: NDArray[np.bool_]) -> Cells:
    """As `within`, for rows of probabilities: all of a row is refused, or nothing."""
    scores = cells.scores
    refused = np.isnan(scores).any(axis=1)
    sums = scores.sum(axis=1)
    uneven = ~refused & (np.abs(sums - 1.0) > SHARES_TOLERANCE)
    rows = np.asarray(wrong.any(axis=1))
    reasons = dict(cells.reasons)
    for place in np.flatnonzero(rows | uneven).tolist():
        if rows[place]:
            value = scores[place][wrong[place]][0]
            reasons[place] = f"{value} outside [{member.minimum}, {member.maximum}]"
        else:
            reasons[place] = f"adds up to {sums[place]:g} instead of 1"
    void = refused | rows | uneven
    if not void.any():
        return cells
    kept = np.where(void[:, None], np.nan, scores)
    return replace(cells, scores=kept, reasons=reasons)
