"""One combiner, without its doors: everything it decides, for any number of partitions.

The same object runs behind Kafka, in a replay and in a simulation; only clock and doors differ.
It is told what came (`add_events`, `add_answers`) and what time it is (`advance`), and returns
what must leave.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cache.latest import Latest
from combiner.ahead import Runs, encode
from combiner.decision import Decider, Decisions
from combiner.encoding import ScoreEncoder
from combiner.escalating import EscalatingJoin
from combiner.fallback import RUNGS
from combiner.health import HealthConfig, ModelHealth, awaited
from combiner.hindsight import Hindsight
from combiner.intake import Intake, Member
from combiner.limits import NO_LIMIT, JoinConfig
from combiner.output import Output as Output  # noqa: PLC0414 -- also found here
from combiner.output import Place, newest_of
from combiner.settled import NOT_ASKED, WAITING, Settled, joined_rows
from combiner.tally import Column, ModelReport, Tally
from combiner.window import EventBlock, PartitionWindow, joined_blocks
from streams.columns import Position
from streams.frames import PredictionFrame
from streams.instants import NS_PER_MS, WallMs


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
        corrections: whether late answers give corrections, and are not only counted.

    Attributes:
        escalated: the events about which the last `advance` wants a cascade's heavy models asked.
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
        *,
        corrections: bool = False,
    ) -> None:
        assert join_config.members == len(members)
        assert join_config.columns == decider.outcome.columns
        self._join_config = join_config
        self._decider = decider
        self._encoder = encoder
        self._ensemble = ensemble
        self._columns = {
            member.name: Column(index, ModelHealth(health_config, now_ns))
            for index, member in enumerate(members)
        }
        self._reserves = np.array([member.reserve for member in members], dtype=np.bool_)
        self._windows: dict[Place, PartitionWindow] = {}
        self.escalated: list[tuple[Place, EventBlock]] = []
        names = [member.name for member in members]
        self._hindsight = Hindsight(
            decider, names, ensemble, join_config.remembered, publish=corrections
        )
        self._intake = Intake(members, self._columns, self._windows, join_config, self._hindsight)

    # -- partitions come and go --------------------------------------------------------------

    def open(self, place: Place, backlog_below: int) -> None:
        """Own a partition; events below `backlog_below` were there before."""
        assert place not in self._windows
        self._windows[place] = PartitionWindow(self._join_config, self._waited_for(), backlog_below)

    def close(self, place: Place) -> None:
        """Forget a partition and all that waits in it; whoever owns it next reads it again."""
        self._windows.pop(place, None)
        self._hindsight.close(place)
        if all(partition != place[1] for _, partition in self._windows):
            self._intake.positions.pop(place[1], None)

    @property
    def places(self) -> list[Place]:
        """The partitions owned."""
        return list(self._windows)

    def read(self, place: Place) -> int:
        """The offset of the last event that a partition took in; -1 before any."""
        return self._windows[place].join.last_offset

    def pending(self, place: Place) -> int:
        """Events that wait in a partition."""
        return self._windows[place].join.pending

    def span(self, place: Place) -> int:
        """Events that are held, from the oldest that waits on; some may have left ahead of it."""
        return self._windows[place].join.span

    def early(self, partition: int) -> int:
        """Answers held for events of this partition number that have not come."""
        return sum(w.join.early for (_, p), w in self._windows.items() if p == partition)

    def skip(self, place: Place, gone: Runs) -> None:
        """Before the first event of a partition: these offsets have their outcomes already."""
        self._windows[place].join.skip(gone)

    def set_backlog(self, place: Place, backlog_below: int) -> None:
        """Reading fell behind: events below this offset are backlog."""
        window = self._windows[place]
        window.backlog_below = max(window.backlog_below, backlog_below)

    # -- what comes in -----------------------------------------------------------------------

    def add_events(self, place: Place, block: EventBlock, now_ns: int) -> None:
        """Take in consecutive events of a partition."""
        self._windows[place].add(block, now_ns)

    def add_frames(
        self,
        partition: int,
        frames: Sequence[tuple[int, PredictionFrame]],
        now_ns: int,
        sent_ms: Callable[[], Mapping[int, int]] = dict,
    ) -> None:
        """Take in records of one `predictions` partition, in order, with their offsets.

        `sent_ms` gives their timestamps by offset, for where the latency went.

        Frames that name no member or another partition are counted in `bad_frames` and left out.
        """
        self._intake.add(partition, frames, now_ns, sent_ms)

    def skip_frames(self, partition: int, behind: int) -> None:
        """Records up to the offset `behind` were no frames at all."""
        self._intake.skip(partition, behind)

    @property
    def bad_frames(self) -> Counter[str]:
        """Frames that were left out, by reason."""
        return self._intake.bad_frames

    def ask(self, place: Place, offsets: NDArray[np.int64], now_ns: int) -> None:
        """The heavy models were asked about these events of a partition, whatever the rule says."""
        join = self._windows[place].join
        assert isinstance(join, EscalatingJoin)
        join.ask(offsets, now_ns)

    # -- what goes out -----------------------------------------------------------------------

    def advance(self, now_ns: int, now_ms: WallMs, limit: int = NO_LIMIT) -> list[Output]:
        """What leaves now; call when something came in, and when `next_wake_ns` says so.

        At most `limit` events leave in one call; if fewer do, no more can leave at this instant.
        """
        self.escalated = []
        outputs = self._settle(now_ns, now_ms, limit)
        room = limit - sum(map(len, outputs))
        # After what was due has left, and before anything else can come in: an answer that comes
        # later is late.
        if room and self._judge(now_ns):
            outputs += self._settle(now_ns, now_ms, room)
        members = len(self._columns)
        return outputs + [
            Output.of_corrections(place, members, records)
            for place, records in self._hindsight.take(now_ms).items()
        ]

    def _settle(self, now_ns: int, now_ms: WallMs, limit: int) -> list[Output]:
        """Decide all partitions together: one event costs the arithmetic as much as many."""
        parts: list[tuple[Place, Settled, EventBlock]] = []
        for place, window in self._windows.items():
            for rows, events in window.settle(now_ns, limit):
                parts.append((place, rows, events))
                limit -= len(rows)
            self.escalated += [(place, block) for block in window.escalated]
            if not limit:
                break
        if not parts:
            return []
        settled = joined_rows([rows for _, rows, _ in parts])
        block = joined_blocks([events for _, _, events in parts])
        decisions = self._decider.decide(settled, block.entities, now_ms, block.facts)
        sources = [
            f"{topic}/{partition}/{offset}"
            for (topic, partition), rows, _ in parts
            for offset in rows.offsets.tolist()
        ]
        values = self._encoder.encode(
            sources, settled, block, decisions, self._waited_for(), now_ms, now_ns
        )
        latest = newest_of(block, decisions, self._decider.outcome, self._ensemble, now_ms)
        outputs: list[Output] = []
        start = 0
        for place, rows, events in parts:
            here = slice(start, start + len(events))
            self._hindsight.remember(place, rows, events, decisions, here)
            outputs.append(
                self._output(place, rows, events, decisions, values, latest, here, (now_ns, now_ms))
            )
            start += len(events)
        return outputs

    def next_wake_ns(self) -> int | None:
        """When something leaves although nothing comes in; None is never."""
        wakes = [window.join.next_wake_ns() for window in self._windows.values()]
        return min((wake for wake in wakes if wake is not None), default=None)

    def _output(
        self,
        place: Place,
        rows: Settled,
        events: EventBlock,
        decisions: Decisions,
        values: list[bytes],
        latest: list[Latest | None],
        here: slice,
        now: tuple[int, WallMs],
    ) -> Output:
        """One partition's share, which stands at `here` in the decisions."""
        now_ns, now_ms = now
        scored = list(zip(events.keys, values[here], strict=True))
        if events.bad:
            scored = [record for record in scored if record[1]]
        newest = {
            entity: score
            for entity, score in zip(events.entities, latest[here], strict=True)
            if score is not None
        }
        good = rows.scoreable
        return Output(
            place,
            scored,
            [(int(events.offsets[row]), bad) for row, bad in sorted(events.bad.items())],
            list(newest.items()),
            np.bincount(decisions.rungs[here][good], minlength=len(RUNGS)),
            self._missed(rows, decisions.used[here]),
            (now_ms - events.record_ms[good]).astype(np.float64),
            (now_ns - rows.seen_ns[good]) / NS_PER_MS,
            events.headers_of_good(),
        )

    def _missed(self, rows: Settled, used: NDArray[np.bool_]) -> NDArray[np.int64]:
        """int64[M]: scores that had to do without each member."""
        not_awaited = rows.hurried[:, None] & (rows.states == WAITING)
        lacking = ~used & ~not_awaited & ~self._reserves & rows.scoreable[:, None]
        if self._join_config.cascade is not None:
            lacking &= rows.states != NOT_ASKED
        counts: NDArray[np.int64] = lacking.sum(axis=0)
        return counts

    def input_positions(self) -> Mapping[Place, Position]:
        """For each input partition, the first offset whose outcome has not left.

        With it, in the manner of `combiner.ahead`, what left above it.
        """
        return {
            place: Position(found[0], encode(*found))
            for place, window in self._windows.items()
            if (found := window.join.position()) is not None
        }

    def prediction_positions(self) -> Mapping[int, int]:
        """For each `predictions` partition, the lowest offset that is still needed."""
        positions = dict(self._intake.positions)
        for (_, partition), window in self._windows.items():
            lowest = window.join.lowest_record()
            if lowest is not None:
                positions[partition] = min(positions[partition], lowest)
        return positions

    # -- health ------------------------------------------------------------------------------

    def _waited_for(self) -> NDArray[np.bool_]:
        healths = [column.health for column in self._columns.values()]
        return awaited(healths, self._reserves)

    def judge_anew(self, now_ns: int) -> None:
        """Forget how the models did: nothing could come, and that was not their fault."""
        for column in self._columns.values():
            column.health = ModelHealth(column.health.config, now_ns)
        self._heed()

    def _heed(self) -> None:
        """Let the deciding and the waiting know who is waited for."""
        expected = self._waited_for()
        self._decider.heed(expected)
        for window in self._windows.values():
            window.join.set_expected(expected)

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
        counts = zip(
            np.sum([j.answered for j in judgements], axis=0).tolist(),
            np.sum([j.refused for j in judgements], axis=0).tolist(),
            np.sum([j.missed for j in judgements], axis=0).tolist(),
            strict=True,
        )
        for column, (answered, refused, missed) in zip(self._columns.values(), counts, strict=True):
            column.tally.answered += answered
            column.tally.refused += refused
            column.tally.missed += missed
            column.health.update(answered, refused, missed, now_ns)
        if np.array_equal(before, self._waited_for()):
            return False
        self._heed()
        return True

    def regrets(self) -> Mapping[tuple[str, bool], int]:
        """Late answers since the last call, by model and whether they would change the label."""
        judged, self._hindsight.judged = self._hindsight.judged, Counter()
        names = list(self._columns)
        return {(names[column], changed): n for (column, changed), n in judged.items()}

    def report(self) -> list[ModelReport]:
        """Each model's state, and its tally since the last report."""
        reports = []
        for name, column in self._columns.items():
            health = column.health
            reports.append(ModelReport(name, health.state, health.since_ns, column.tally))
            column.tally = Tally()
        return reports
