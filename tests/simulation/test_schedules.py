"""Thousands of short schedules of the join hold, exercise everything, and find what is broken."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from cli.main import app
from combiner import window
from combiner.ahead import MOST_BYTES, NONE, Runs
from combiner.answers import Answers, Cells, EarlyAnswers
from combiner.escalating import EscalatingJoin
from combiner.join import DeadlineJoin, Floats, Ints, JoinConfig
from combiner.settled import ANSWERED, NOT_ASKED, WAITING
from simulation import schedules
from simulation.schedules import Schedule, explore, run_schedule

SCHEDULES = 5_000
# A broken variant must be found within so many.
SCHEDULES_TO_FIND = SCHEDULES

Bools = NDArray[np.bool_]


@cache
def explored() -> tuple[dict[str, int], tuple[int, str] | None]:
    counts, broken = explore(0, SCHEDULES)
    return dict(counts), broken


def test_every_schedule_holds() -> None:
    counts, broken = explored()
    assert broken is None, f"ensemble simulate --schedule {broken[0]}"
    assert counts["schedules"] == SCHEDULES


def test_everything_is_exercised() -> None:
    counts, _ = explored()
    wanted = {
        "crashes", "crashes with offsets ahead", "commits", "events left", "late answers",
        "answers together", "early answers", "repeated answers", "events escalated",
    }  # fmt: skip
    assert all(counts.get(name, 0) > 50 for name in wanted), counts


def test_one_number_is_one_schedule_wherever_it_stands() -> None:
    one_by_one = [run_schedule(number) for number in range(1020, 1030)]
    together, broken = explore(1020, 10)
    assert broken is None
    assert sum(counts["events left"] for counts in one_by_one) == together["events left"]


# -- what is broken is found -----------------------------------------------------------------


class TooPatient(DeadlineJoin):
    """A nanosecond late."""

    def settle(self, now_ns: int, limit: int = 8192):
        return super().settle(now_ns - 1, limit)


class SleepsTooLong(DeadlineJoin):
    def next_wake_ns(self) -> int | None:
        wake_ns = super().next_wake_ns()
        return wake_ns and wake_ns + 1


class LastAnswerHolds(DeadlineJoin):
    def _fill(self, member: int, which: slice | Ints, cells: Cells, now_ns: int, answers: Answers):
        super()._fill(member, which, cells, now_ns, answers)
        self._rows.scores[member][:, which] = cells.scores.T


class RecordsForgotten(DeadlineJoin):
    """Says that no held answer needs its record again."""

    def lowest_record(self) -> int | None:
        early, self._early = self._early, EarlyAnswers()
        lowest = super().lowest_record()
        self._early = early
        return lowest


class BacklogLikeFresh(DeadlineJoin):
    def add_events(
        self, offsets: Ints, scoreable: Bools, backlog_below: int, now_ns: int
    ) -> Answers:
        return super().add_events(offsets, scoreable, 0, now_ns)


class FreshBehindBacklog(DeadlineJoin):
    def add_events(
        self, offsets: Ints, scoreable: Bools, backlog_below: int, now_ns: int
    ) -> Answers:
        real = self.config
        self.config = replace(real, in_order=False)
        try:
            return super().add_events(offsets, scoreable, backlog_below, now_ns)
        finally:
            self.config = real


class NothingHeldBack(DeadlineJoin):
    def __init__(self, config: JoinConfig, expected: Bools) -> None:
        super().__init__(config, expected)
        self._overtaking._most_bytes = MOST_BYTES


class ListIgnored(DeadlineJoin):
    """Lets leave again what left before the crash."""

    def skip(self, gone: Runs) -> None:
        pass


class ListNotPassedOn(DeadlineJoin):
    """Forgets what left before a crash and was not read again before the next one."""

    def position(self) -> tuple[int, Runs] | None:
        earlier, self._overtaking.earlier = self._overtaking.earlier, NONE
        found = super().position()
        self._overtaking.earlier = earlier
        return found


class ListNotCommitted(DeadlineJoin):
    """Commits the offset alone."""

    def position(self) -> tuple[int, Runs] | None:
        found = super().position()
        return found and (found[0], NONE)


class PositionTooHigh(DeadlineJoin):
    """Commits the newest event as if everything before it had left."""

    def position(self) -> tuple[int, Runs] | None:
        found = super().position()
        return found and (self.last_offset + 1, NONE)


class AnyAnswerIsAQuorum(DeadlineJoin):
    def _look_at_quorum(self) -> None:
        if self.config.quorum is not None:
            self._rows.met[:] |= (self._rows.states == ANSWERED).any(axis=0)


class TogetherOverWhatIsThere(DeadlineJoin):
    """Answers that come together fill cells that are filled, too."""

    def add_together(
        self, members: Ints, offsets: Ints, scores: Floats, record: int, now_ns: int
    ) -> Answers | None:
        which = self._rows.run_of(offsets)
        if which is not None and which.start >= self._rows.head:
            self._rows.states[members, which] = WAITING
        return super().add_together(members, offsets, scores, record, now_ns)


class StillWaitsForTheFailed(DeadlineJoin):
    def set_expected(self, expected: Bools) -> None:
        self._expected = expected.copy()


@pytest.mark.parametrize(
    "broken",
    [
        TooPatient,
        SleepsTooLong,
        LastAnswerHolds,
        RecordsForgotten,
        BacklogLikeFresh,
        FreshBehindBacklog,
        NothingHeldBack,
        ListIgnored,
        ListNotPassedOn,
        ListNotCommitted,
        PositionTooHigh,
        AnyAnswerIsAQuorum,
        StillWaitsForTheFailed,
        TogetherOverWhatIsThere,
    ],
)
def test_a_broken_join_is_found(
    broken: type[DeadlineJoin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "DeadlineJoin", broken)
    _, found = explore(0, SCHEDULES_TO_FIND)
    assert found is not None
    with pytest.raises(AssertionError):
        run_schedule(found[0])


class NeverAsks(EscalatingJoin):
    def _ask_rule(self, now_ns: int) -> None:
        pass


class OnlyWhatWasAskedCounts(EscalatingJoin):
    """Throws away answers that nobody asked for."""

    def _fill(self, member: int, which: slice | Ints, cells: Cells, now_ns: int, answers: Answers):
        wanted = np.flatnonzero(self._rows.states[member, which] != NOT_ASKED)
        if len(wanted):
            rows = np.arange(which.start, which.stop) if isinstance(which, slice) else which
            super()._fill(member, rows[wanted], cells.take(wanted), now_ns, answers)


class AskedTooLateForBacklog(EscalatingJoin):
    """Holds it against models that they stood still while they were asked nothing."""

    def _await(self, which: Ints, now_ns: int) -> None:
        progress_ns = self._progress_ns.copy()
        super()._await(which, now_ns)
        self._progress_ns = progress_ns


class AsksWhenTimeIsUp(EscalatingJoin):
    def _ask_rule(self, now_ns: int) -> None:
        super()._ask_rule(-1)


@pytest.mark.parametrize(
    "broken", [NeverAsks, OnlyWhatWasAskedCounts, AskedTooLateForBacklog, AsksWhenTimeIsUp]
)
def test_a_broken_cascade_is_found(
    broken: type[EscalatingJoin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "EscalatingJoin", broken)
    assert explore(0, SCHEDULES_TO_FIND)[1] is not None


class OutcomesAlone(Schedule):
    """Positions do not go with what they stand for."""

    def _commit(self) -> None:
        position, needed = self._position, self._needed
        super()._commit()
        self._position, self._needed = position, needed


def test_a_commit_in_two_halves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "Schedule", OutcomesAlone)
    assert explore(0, SCHEDULES_TO_FIND)[1] is not None


# -- the command -----------------------------------------------------------------------------


def test_the_command_counts_schedules() -> None:
    result = CliRunner().invoke(app, ["simulate", "--schedules", "1500", "--start", "7"])
    assert result.exit_code == 0, result.output
    assert "1,500 schedules in" in result.stdout


def test_a_failing_schedule_is_printed_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(window, "DeadlineJoin", LastAnswerHolds)
    result = CliRunner().invoke(app, ["simulate", "--schedules", "3000"])
    assert result.exit_code == 1
    again = result.stderr.partition("again: ensemble ")[2].split()
    assert again[:2] == ["simulate", "--schedule"]
    repeated = CliRunner().invoke(app, again)
    assert repeated.exit_code == 1
    assert repeated.stderr == result.stderr
