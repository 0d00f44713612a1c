"""One combiner, without its doors: everything it decides, for any number of partitions.

The same object runs behind Kafka, in a replay and in a simulation; only clock and doors differ.
It is told what came (`add_events`, `add_answers`) and what time it is (`advance`), and returns
what must leave.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cache.latest import LatestScore
from combiner.answers import Answers, Cells
from combiner.decision import Decider, Decisions
from combiner.encoding import ScoreEncoder
from combiner.fallback import CACHED
from combiner.health import HealthConfig, ModelHealth, State
from combiner.join import JoinConfig, Settled
from combiner.window import BadRecord, EventBlock, PartitionWindow
from streams.frames import PredictionFrame
from streams.instants import NS_PER_MS, WallMs

Place = tuple[str, int]  # topic, partition


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


@dataclass(frozen=True, slots=True)
class Output:
    """What leaves one input partition, in input order.

    Attributes:
        place: input topic and partition.
        scored: key and value of each scored record.
        dead: the events that could not be scored, by offset.
        latest: entity and score, for the cache.
        fallbacks: int64 counts by rung.
        missed: int64[M], events scored without each model.
        latency_ms: float64[N], from the records' timestamps.
        waited_ms: float64[N], from the combiner's first sight.
    """

    place: Place
    scored: list[tuple[bytes | None, bytes]]
    dead: list[tuple[int, BadRecord]]
    latest: list[tuple[str, LatestScore]]
    fallbacks: NDArray[np.int64]
    missed: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    waited_ms: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scored) + len(self.dead)


@dataclass(slots=True)
class Tally:
    """How one model did since the last report; `latency_ns` is summed over `filled` answers."""

    answered: int = 0
    refused: int = 0
    missed: int = 0
    filled: int = 0
    late: int = 0
    latency_ns: int = 0


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A model's state and what led to it."""

    model: str
    state: State
    since_ns: int
    tally: Tally


@dataclass(slots=True)
class _Column:
    """Where a model's answers go, and how it is doing."""

    index: int
    member: Member
    health: ModelHealth
    tally: Tally = field(default_factory=Tally)


class Combiner:
    """Joins, decides and encodes.

    Args:
        members: the columns.
        join_config: see `combiner.join`.
        health_config: see `combiner.health`.
        decider: from answers to scores.
        encoder: from scores to bytes.
        ensemble: `name@version`, for the cache.
        now_ns: monotonic time.
    """

    def __init__(
        self,
        members: Sequence[Member],
        join_config: JoinConfig,
        health_config: HealthConfig,
        decider: Decider,
        encoder: ScoreEncoder,
        ensemble: str,
        now_ns: int,
    ) -> None:
        assert join_config.members == len(members)
        self._join_config = join_config
        self._decider = decider
        self._encoder = encoder
        self._ensemble = ensemble
        self._columns = {
            member.name: _Column(index, member, ModelHealth(health_config, now_ns))
            for index, member in enumerate(members)
        }
        self._reserves = np.array([member.reserve for member in members], dtype=np.bool_)
        self._windows: dict[Place, PartitionWindow] = {}
        # `predictions` partition → offset behind the last record taken in.
        self._positions: dict[int, int] = {}
        self.bad_frames: Counter[str] = Counter()

    # -- partitions come and go --------------------------------------------------------------

    def open(self, place: Place, backlog_below: int) -> None:
        """Own a partition; events below `backlog_below` were there before."""
        assert place not in self._windows
        self._windows[place] = PartitionWindow(self._join_config, self._waited_for(), backlog_below)

    def close(self, place: Place) -> None:
        """Forget a partition and all that waits in it; whoever owns it next reads it again."""
        self._windows.pop(place, None)
        if all(partition != place[1] for _, partition in self._windows):
            self._positions.pop(place[1], None)

    @property
    def places(self) -> list[Place]:
        """The partitions owned."""
        return list(self._windows)

    def pending(self, place: Place) -> int:
        """Events that wait in a partition."""
        return self._windows[place].join.pending

    def early(self, partition: int) -> int:
        """Answers held for events of this partition number that have not come."""
        return sum(w.join.early for (_, p), w in self._windows.items() if p == partition)

    def set_backlog(self, place: Place, backlog_below: int) -> None:
        """Reading fell behind: events below this offset are backlog."""
        window = self._windows[place]
        window.backlog_below = max(window.backlog_below, backlog_below)

    # -- what comes in -----------------------------------------------------------------------

    def add_events(self, place: Place, block: EventBlock, now_ns: int) -> None:
        """Take in consecutive events of a partition."""
        self._windows[place].add(block, now_ns)

    def add_frames(
        self, partition: int, frames: Sequence[tuple[int, PredictionFrame]], now_ns: int
    ) -> None:
        """Take in records of one `predictions` partition, in order, with their offsets.

        Frames that name no member or another partition are counted in `bad_frames` and left out.
        """
        groups: dict[tuple[str, str], list[tuple[int, PredictionFrame]]] = {}
        for record, frame in frames:
            problem = self._problem(partition, frame)
            if problem:
                self.bad_frames[problem] += 1
            elif (frame.topic, partition) in self._windows:
                groups.setdefault((frame.topic, frame.model), []).append((record, frame))
            self._positions[partition] = record + 1
        for (topic, model), group in groups.items():
            column = self._columns[model]
            join = self._windows[(topic, partition)].join
            cells = _merged(group)
            answers = join.add_answers(column.index, _within(column.member, cells), now_ns)
            self._count(column, answers)

    def skip_frames(self, partition: int, behind: int) -> None:
        """Records up to the offset `behind` were no frames at all."""
        self._positions[partition] = max(behind, self._positions.get(partition, 0))

    def _problem(self, partition: int, frame: PredictionFrame) -> str:
        column = self._columns.get(frame.model)
        if column is None:
            return "unknown model"
        if column.member.version and frame.version != column.member.version:
            return "other version"
        if frame.partition != partition:
            return "wrong partition"
        if frame.scores.ndim != 1:
            return "several columns"
        return ""

    @staticmethod
    def _count(column: _Column, answers: Answers) -> None:
        column.tally.filled += answers.filled
        column.tally.late += answers.late + answers.unknown
        column.tally.latency_ns += answers.latency_ns

    # -- what goes out -----------------------------------------------------------------------

    def advance(self, now_ns: int, now_ms: WallMs) -> list[Output]:
        """All that leaves now; call when something came in, and when `next_wake_ns` says so."""
        outputs = self._settle(now_ns, now_ms)
        # After what was due has left, and before anything else can come in: an answer that comes
        # later is late.
        if self._judge(now_ns):
            outputs += self._settle(now_ns, now_ms)
        return outputs

    def _settle(self, now_ns: int, now_ms: WallMs) -> list[Output]:
        return [
            self._output(place, *part, now_ns, now_ms)
            for place, window in self._windows.items()
            for part in window.settle(now_ns)
        ]

    def next_wake_ns(self) -> int | None:
        """When something leaves although nothing comes in; None is never."""
        wakes = [window.join.next_wake_ns() for window in self._windows.values()]
        return min((wake for wake in wakes if wake is not None), default=None)

    def _output(
        self, place: Place, settled: Settled, block: EventBlock, now_ns: int, now_ms: WallMs
    ) -> Output:
        decisions = self._decider.decide(settled, block.entities, now_ms)
        values = self._encoder.encode(
            f"{place[0]}/{place[1]}/", settled, block, decisions, self._waited_for(), now_ms
        )
        scored = list(zip(block.keys, values, strict=True))
        if block.bad:
            scored = [record for record in scored if record[1]]
        good = settled.scoreable
        return Output(
            place,
            scored,
            [(int(block.offsets[row]), bad) for row, bad in sorted(block.bad.items())],
            self._latest(block, decisions, now_ms),
            np.bincount(decisions.rungs[good], minlength=CACHED + 2),
            np.count_nonzero(~decisions.used[good] & ~self._reserves, axis=0),
            (now_ms - block.record_ms[good]).astype(np.float64),
            (now_ns - settled.seen_ns[good]) / NS_PER_MS,
        )

    def _latest(
        self, block: EventBlock, decisions: Decisions, now_ms: WallMs
    ) -> list[tuple[str, LatestScore]]:
        """The last score of each entity; a cached score or a prior is no news."""
        fresh = decisions.rungs < CACHED
        fresh[list(block.bad)] = False
        by_entity = {
            entity: row
            for row, (entity, new) in enumerate(zip(block.entities, fresh.tolist(), strict=True))
            if new
        }
        return [
            (
                entity,
                LatestScore(
                    self._ensemble,
                    float(decisions.scores[row]),
                    int(decisions.labels[row]),
                    WallMs(int(block.time_ms[row])),
                    now_ms,
                    block.ids[row],
                ),
            )
            for entity, row in by_entity.items()
        ]

    def input_positions(self) -> Mapping[Place, int]:
        """For each input partition, the first offset whose outcome has not left."""
        positions: dict[Place, int] = {}
        for place, window in self._windows.items():
            lowest = window.join.lowest_pending()
            if lowest is not None:
                positions[place] = lowest
            elif window.join.last_offset >= 0:
                positions[place] = window.join.last_offset + 1
        return positions

    def prediction_positions(self) -> Mapping[int, int]:
        """For each `predictions` partition, the lowest offset that is still needed."""
        positions = dict(self._positions)
        for (_, partition), window in self._windows.items():
            lowest = window.join.lowest_record()
            if lowest is not None:
                positions[partition] = min(positions[partition], lowest)
        return positions

    # -- health ------------------------------------------------------------------------------

    def _waited_for(self) -> NDArray[np.bool_]:
        waited = [column.health.waited_for for column in self._columns.values()]
        return np.array(waited, dtype=np.bool_) & ~self._reserves

    def _judge(self, now_ns: int) -> bool:
        """Judge the models on what is due; whether other models are waited for than before."""
        judgements = [
            judgement
            for window in self._windows.values()
            if (judgement := window.join.judge(now_ns)) is not None
        ]
        if not judgements:
            return False
        before = self._waited_for()
        for column in self._columns.values():
            answered = sum(int(j.answered[column.index]) for j in judgements)
            refused = sum(int(j.refused[column.index]) for j in judgements)
            missed = sum(int(j.missed[column.index]) for j in judgements)
            column.tally.answered += answered
            column.tally.refused += refused
            column.tally.missed += missed
            column.health.update(answered, refused, missed, now_ns)
        expected = self._waited_for()
        if np.array_equal(before, expected):
            return False
        for window in self._windows.values():
            window.join.set_expected(expected)
        return True

    def report(self) -> list[ModelReport]:
        """Each model's state, and its tally since the last report."""
        reports = []
        for name, column in self._columns.items():
            health = column.health
            reports.append(ModelReport(name, health.state, health.since_ns, column.tally))
            column.tally = Tally()
        return reports


def _merged(group: Sequence[tuple[int, PredictionFrame]]) -> Cells:
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


def _within(member: Member, cells: Cells) -> Cells:
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
