"""From the frames of a fetch to the cells of the join: which count, merged, and within range."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from combiner.answers import Cells, Stamp
from combiner.hindsight import Hindsight
from combiner.limits import JoinConfig
from combiner.tally import Column
from combiner.window import PartitionWindow
from streams.columns import Columns, Place
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


# A frame, and the offset of the record that it came in.
Numbered = tuple[int, PredictionFrame]


class Intake:
    """Takes records of `predictions` into the joins of their events.

    Args:
        members: the models, by name.
        columns: where their answers go, by name.
        windows: the partitions owned; they come and go.
        config: that of the joins.
        hindsight: told of answers that came too late.

    Attributes:
        bad_frames: frames that were left out, by reason.
        positions: `predictions` partition → offset behind the last record taken in.
    """

    def __init__(
        self,
        members: Sequence[Member],
        columns: Mapping[str, Column],
        windows: Mapping[Place, PartitionWindow],
        config: JoinConfig,
        hindsight: Hindsight,
    ) -> None:
        self.bad_frames: Counter[str] = Counter()
        self.positions: dict[int, int] = {}
        self._members = {member.name: member for member in members}
        self._columns = columns
        self._windows = windows
        self._config = config
        self._hindsight = hindsight
        self._shareable = config.columns == 1 and not config.stamped and config.cascade is None

    def add(
        self,
        partition: int,
        frames: Sequence[Numbered],
        now_ns: int,
        sent_ms: Callable[[], Mapping[int, int]],
    ) -> None:
        """Take in records of one partition, see `Combiner.add_frames`."""
        waiting: dict[tuple[str, str], list[Numbered]] = {}
        for run in self._usable_runs(partition, frames):
            if len(run) > 1 and self._shareable:
                if waiting and any((frame.topic, frame.model) in waiting for _, frame in run):
                    # In the order of the log: the first answer of a cell holds.
                    self._add_each(partition, waiting, now_ns, sent_ms)
                    waiting = {}
                if self._add_together(partition, run, now_ns):
                    continue
            for numbered in run:
                frame = numbered[1]
                waiting.setdefault((frame.topic, frame.model), []).append(numbered)
        self._add_each(partition, waiting, now_ns, sent_ms)

    def skip(self, partition: int, behind: int) -> None:
        """Records up to the offset `behind` were no frames at all."""
        self.positions[partition] = max(behind, self.positions.get(partition, 0))

    def _usable_runs(self, partition: int, frames: Sequence[Numbered]) -> Iterator[list[Numbered]]:
        """The frames that count, those of one record together: they are about the same events."""
        for record, run in groupby(frames, key=itemgetter(0)):
            shared = list(run)
            first = shared[0][1]
            self.positions[partition] = record + 1
            window = self._windows.get((first.topic, partition))
            beyond = window is not None and int(first.offsets.max()) >= window.horizon
            usable = []
            for numbered in shared:
                frame = numbered[1]
                problem = problem_of(frame, partition, self._members.get(frame.model))
                if not problem and beyond:
                    problem = "no such event"
                if problem:
                    self.bad_frames[problem] += 1
                elif window is not None:
                    usable.append(numbered)
            if usable:
                yield usable

    def _add_together(self, partition: int, run: Sequence[Numbered], now_ns: int) -> bool:
        """Several models' answers to the same events at once; whether that was possible."""
        record, first = run[0]
        frames = [frame for _, frame in run]
        scores = plain_scores(frames, [self._members[frame.model] for frame in frames])
        if scores is None:
            return False
        columns = [self._columns[frame.model] for frame in frames]
        members = np.array([column.index for column in columns])
        join = self._windows[(first.topic, partition)].join
        answers = join.add_together(members, first.offsets, scores, record, now_ns)
        if answers is None:
            return False
        for column in columns:
            column.tally.count(answers)
        return True

    def _add_each(
        self,
        partition: int,
        groups: Mapping[tuple[str, str], Sequence[Numbered]],
        now_ns: int,
        sent_ms: Callable[[], Mapping[int, int]],
    ) -> None:
        for (topic, model), group in groups.items():
            column, member = self._columns[model], self._members[model]
            join = self._windows[(topic, partition)].join
            for cells in self._cells(group, now_ns, sent_ms):
                answers = join.add_answers(column.index, within(member, cells), now_ns)
                column.tally.count(answers)
                if answers.too_late:
                    self._hindsight.look((topic, partition), column.index, answers.too_late, join)

    def _cells(
        self, group: Sequence[Numbered], now_ns: int, sent_ms: Callable[[], Mapping[int, int]]
    ) -> list[Cells]:
        """One model's frames as one, or each with its times where these are kept."""
        if not self._config.stamped:
            return [merged(group)]
        times = sent_ms()
        return [
            replace(
                merged([(record, frame)]),
                stamp=Stamp(
                    now_ns, times.get(record, 0), frame.timing.queue_ms, frame.timing.model_ms
                ),
            )
            for record, frame in group
        ]


def plain_scores(
    frames: Sequence[PredictionFrame], members: Sequence[Member]
) -> NDArray[np.float64] | None:
    """float64[L, N]: L models' answers to the same events, if every one counts as it is."""
    names = {frame.model for frame in frames}
    if len(names) < len(frames) or any(frame.refusals for frame in frames):
        return None
    least, greatest = np.finfo(np.float64).min, np.finfo(np.float64).max
    low = [least if member.minimum is None else member.minimum for member in members]
    high = [greatest if member.maximum is None else member.maximum for member in members]
    scores = np.stack([frame.scores for frame in frames])
    # NaN is neither.
    plain = (scores >= np.array(low)[:, None]) & (scores <= np.array(high)[:, None])
    return scores if plain.all() else None
