"""The judges of the simulation can fail: each broken variant of what they judge is caught."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from combiner import window
from combiner.ahead import MOST_BYTES, Runs
from combiner.answers import Answers
from combiner.core import Combiner
from combiner.escalating import EscalatingJoin
from combiner.join import DeadlineJoin, Ints
from combiner.limits import NO_LIMIT, JoinConfig
from combiner.output import Output, Place
from combiner.settled import ANSWERED, WAITING
from simulation import combining, outbox, world
from simulation.checkers import violations
from simulation.faults import Incident, Plan, plan_of
from simulation.outbox import Outbox, Shipment
from simulation.process import SESSION_MS, Dialogue, Surroundings
from simulation.world import Build, World, build_combiner
from streams.columns import Position
from streams.escalations import escalation_headers
from streams.instants import WallMs
from streams.records import Header

# A broken variant must be found within so many.
SEEDS_TO_FIND = 150


class DeadlineIgnored(DeadlineJoin):
    """Waits for everybody, for ever so long."""

    def _leaves(self, rows: slice, now_ns: int) -> NDArray[np.bool_]:
        return super()._leaves(rows, now_ns - 150 * 10**6)


class ImpatientJoin(DeadlineJoin):
    """Gives up a little early."""

    def _leaves(self, rows: slice, now_ns: int) -> NDArray[np.bool_]:
        return super()._leaves(rows, now_ns + 15 * 10**6)


class LastAnswerHolds(DeadlineJoin):
    """A duplicate overwrites what was there."""

    def _fill(self, member: int, rows: slice | Ints, cells, now_ns: int, answers: Answers) -> None:
        places = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        taken = self._rows.states[member, places] != WAITING
        self._rows.scores[member][:, places[taken]] = cells.scores[taken].T
        super()._fill(member, rows, cells, now_ns, answers)


class BacklogLikeFresh(DeadlineJoin):
    """Forgets that an outage must not cost members."""

    def add_events(
        self, offsets: Ints, scoreable: NDArray[np.bool_], backlog_below: int, now_ns: int
    ) -> Answers:
        return super().add_events(offsets, scoreable, 0, now_ns)


class EarlyAnswersLost(DeadlineJoin):
    """Says that no record is needed any more."""

    def lowest_record(self) -> int | None:
        return None


class NothingHeldBack(DeadlineJoin):
    """Lets leave whatever is ready, however long the list beside the offset."""

    def __init__(self, config: JoinConfig, expected: NDArray[np.bool_]) -> None:
        super().__init__(config, expected)
        self._overtaking._most_bytes = MOST_BYTES


class ListIgnored(DeadlineJoin):
    """Decides again what left ahead before a restart."""

    def skip(self, gone: Runs) -> None:
        pass


class AnyAnswerIsAQuorum(DeadlineJoin):
    """Leaves with the first answer."""

    def _look_at_quorum(self) -> None:
        if self.config.quorum is not None:
            self._rows.met[:] |= (self._rows.states == ANSWERED).any(axis=0)


class NeverAsks(EscalatingJoin):
    """Takes everybody for certain."""

    def _ask_rule(self, now_ns: int) -> None:
        pass


class AsksAboutAll(EscalatingJoin):
    """Takes nobody for certain."""

    def _ask_rule(self, now_ns: int) -> None:
        escalates = self._cascade.escalates
        self._cascade.escalates = lambda scores, states: escalates(scores, states) | True
        super()._ask_rule(now_ns)
        self._cascade.escalates = escalates


class WaitsForNothing(EscalatingJoin):
    """Waits for models that were not asked."""

    def _open(self, new: slice, scoreable: NDArray[np.bool_]) -> None:
        super()._open(new, scoreable)
        self._rows.remaining[new] += scoreable * np.count_nonzero(self._expected[self._heavy])

    def _ask_rule(self, now_ns: int) -> None:
        self._rows.remaining[:] -= np.count_nonzero(self._expected[self._heavy])
        super()._ask_rule(now_ns)
        self._rows.remaining[:] += np.count_nonzero(self._expected[self._heavy])


class KeepsQuestions(Combiner):
    """Asks, and tells nobody."""

    def advance(self, now_ns: int, now_ms: WallMs, limit: int = NO_LIMIT) -> list[Output]:
        outputs = super().advance(now_ns, now_ms, limit)
        self.escalated = []
        return outputs


class LastFirst(Combiner):
    """Lets what leaves together leave in the wrong order."""

    def advance(self, now_ns: int, now_ms: WallMs, limit: int = NO_LIMIT) -> list[Output]:
        outputs = super().advance(now_ns, now_ms, limit)
        for output in outputs:
            output.scored.reverse()
        return outputs


class OffsetsAlone(Combiner):
    """Says nothing of what left ahead of the offset."""

    def input_positions(self) -> dict[tuple[str, int], Position]:
        found = super().input_positions()
        return {place: Position(position.offset) for place, position in found.items()}


class ScoresForBadEvents(Combiner):
    """Swallows dead letters."""

    def advance(self, now_ns: int, now_ms: WallMs, limit: int = NO_LIMIT) -> list[Output]:
        outputs = super().advance(now_ns, now_ms, limit)
        for output in outputs:
            output.dead.clear()
        return outputs


class OffsetsFirst(Outbox):
    """Commits positions, and then publishes."""

    def _transact(self, load: list[Shipment]) -> Dialogue:
        self._around.log.commit("combiner", outbox._positions(load))
        return super()._transact(load)

    def _publish(self, load: list[Shipment]) -> Dialogue:
        self._around.log.commit("combiner", outbox._positions(load))
        return super()._publish(load)


class ZombieOutbox(Outbox):
    """Commits under whatever generation is the present one."""

    def _transact(self, load: list[Shipment]) -> Dialogue:
        now = self._group.generation
        self._group.check = lambda *_: None
        return super()._transact([Shipment(s.outputs, s.positions, now) for s in load])


class WithoutTransaction(Outbox):
    """Calls it exactly once, and does it at least once."""

    def _transact(self, load: list[Shipment]) -> Dialogue:
        return super()._publish(load)


class NeverGivesUp(Outbox):
    """Leaves what hangs from before to its first commit."""

    def _give_up_what_hangs(self) -> None:
        pass


class NothingTakenBack(Outbox):
    """What was not published in time is published under the next generation."""

    def abandon(self) -> None:
        pass


def restless(seed: int) -> Plan:
    """Two combiners that take each other's partitions all the time."""
    plan = plan_of(seed)
    incidents = [
        Incident(
            at_ms + seed % 9,
            kind,
            f"combiner.{seed % 2}",
            50 if kind == "leave" else SESSION_MS + 60,
        )
        for at_ms, kind in ((202, "pause"), (752, "leave"), (852, "leave"))
    ]
    return replace(
        plan,
        delivery="exactly_once",
        combiners=2,
        starts_ms=0,
        lasts_ms=900,
        burst_ms=50,
        events=60,
        rates={"no drain": 0.5},
        incidents=tuple(incidents),
    )


def caught(
    judge: str, build: Build = build_combiner, planned: Callable[[int], Plan] = plan_of
) -> bool:
    """Whether a judge objects to a broken variant."""
    return any(
        problem.partition(":")[0] == judge
        for seed in range(SEEDS_TO_FIND)
        for problem in violations(World(planned(seed), build=build).run())
    )


def test_classes_in_the_wrong_order_are_caught() -> None:
    def mixed_up(around: Surroundings, now_ns: int) -> Combiner:
        combiner = build_combiner(around, now_ns)
        strategy = combiner._decider._strategy
        combine = strategy.combine
        strategy.combine = lambda *given: combine(*given)[:, ::-1]
        return combiner

    assert {seed for seed in range(20) if plan_of(seed).classes} == {0, 5, 10, 15}
    assert caught("answers", mixed_up)


def test_nothing_is_wrong_with_restless_combiners() -> None:
    for seed in range(20):
        assert not violations(World(restless(seed)).run()), seed


@pytest.mark.parametrize(
    ("broken", "judge"),
    [
        (DeadlineIgnored, "deadlines"),
        (ImpatientJoin, "deadlines"),
        (LastAnswerHolds, "answers"),
        (BacklogLikeFresh, "backlog"),
        (EarlyAnswersLost, "answers"),
        (ListIgnored, "once"),
        (AnyAnswerIsAQuorum, "quorum"),
    ],
)
def test_a_broken_join_is_caught(
    broken: type[DeadlineJoin], judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "DeadlineJoin", broken)
    assert caught(judge)


def crowded(seed: int) -> Plan:
    """Much that leaves ahead of what waits, and room to note one run of it."""
    return replace(
        plan_of(seed),
        delivery="exactly_once",
        order="ready",
        quorum="all",
        ahead_bytes=11,
        partitions=1,
        combiners=1,
        limit_ms=800,
        events=40,
        rates={"slow": 0.3, "lost": 0.2},
        incidents=(),
    )


@pytest.mark.parametrize("broken", [False, True])
def test_a_join_that_holds_nothing_back_is_caught(
    monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    """Nobody takes what it commits, so that it never comes to rest."""
    monkeypatch.setattr(world, "_REST_MS", 2000)
    if broken:
        monkeypatch.setattr(window, "DeadlineJoin", NothingHeldBack)
    assert caught("finished", planned=crowded) == broken


@pytest.mark.parametrize("broken", [NeverAsks, AsksAboutAll, WaitsForNothing])
def test_a_broken_cascade_is_caught(
    broken: type[EscalatingJoin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "EscalatingJoin", broken)
    assert caught("questions")


def test_an_escalation_of_another_event_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(place: Place, offset: int, time_ms: int) -> list[Header]:
        return escalation_headers(place, offset + 1, time_ms)

    monkeypatch.setattr(combining, "escalation_headers", wrong)
    assert caught("escalations")


def test_an_old_position_that_is_believed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "newest_beyond", lambda *_: None)
    assert caught("once")


@pytest.mark.parametrize(
    ("broken", "judge"),
    [
        (LastFirst, "order"),
        (ScoresForBadEvents, "once"),
        (OffsetsAlone, "once"),
        (KeepsQuestions, "questions"),
    ],
)
def test_a_broken_combiner_is_caught(broken: type[Combiner], judge: str) -> None:
    def build(around: Surroundings, now_ns: int) -> Combiner:
        combiner = build_combiner(around, now_ns)
        combiner.__class__ = broken
        return combiner

    assert caught(judge, build)


@pytest.mark.parametrize(
    ("broken", "planned"),
    [
        (OffsetsFirst, plan_of),
        (WithoutTransaction, plan_of),
        (NeverGivesUp, plan_of),
        (ZombieOutbox, restless),
        (NothingTakenBack, restless),
    ],
)
def test_a_broken_outbox_is_caught(
    broken: type[Outbox], planned: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.combining.Outbox", broken)
    assert caught("once", planned=planned)


def test_a_late_commit_that_is_believed_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_BELIEVED_NS", 10**12)
    assert caught("once")
