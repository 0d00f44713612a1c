"""Random runs keep every promise, exercise every fault, and the judges catch what is broken."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from combiner import window
from combiner.ahead import MOST_BYTES, Runs
from combiner.answers import Answers
from combiner.core import Combiner
from combiner.escalating import EscalatingJoin
from combiner.fallback import RUNGS
from combiner.join import DeadlineJoin, Ints
from combiner.limits import NO_LIMIT, JoinConfig
from combiner.output import Output, Place
from combiner.settled import ANSWERED, WAITING
from simulation import combining, outbox
from simulation.checkers import rungs_of, violations
from simulation.faults import INCIDENTS, OLD_POSITION, RATES, ROUND, Incident, Plan, plan_of
from simulation.inputs import BAD
from simulation.outbox import Outbox, Shipment
from simulation.process import SESSION_MS, Dialogue, Surroundings
from simulation.world import Build, World, build_combiner, run_seed
from streams.columns import Position
from streams.escalations import escalation_headers
from streams.instants import WallMs
from streams.records import Header

SEEDS = 500
# A broken variant must be found within so many.
SEEDS_TO_FIND = 150

STEPS = {
    "combiner": (
        "fetched", "escalated", "shipped", "among records", "produced", "sent offsets", "committed",
        "acknowledged",
    ),
    "worker": ("fetched", "scored", "produced", "committed"),
}  # fmt: skip
HAPPENINGS = (
    "events", "rebalances", "expelled", "partitions lost", "rewinds", "back-pressure",
    "positions inside a transaction", "cache asked while dead", "commits with offsets ahead",
    "went on with offsets ahead", "escalated", "skipped what was published",
    OLD_POSITION, ROUND,
)  # fmt: skip


@cache
def many_runs() -> tuple[dict[int, list[str]], Counter[str]]:
    """Violations by seed, and all that happened."""
    found: dict[int, list[str]] = {}
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        run = run_seed(seed)
        if problems := violations(run):
            found[seed] = problems
        counts += run.counts + rungs_of(run)
    return found, counts


def test_every_promise_holds_in_every_run() -> None:
    found, _ = many_runs()
    assert not found, f"ensemble simulate --seed {min(found)}"


def test_every_fault_and_every_rung_is_exercised() -> None:
    _, counts = many_runs()
    rates = RATES.keys() - {"crash at a step", "bad event", "refused"}
    crashes = [f"crash: {who} {step}" for who, steps in STEPS.items() for step in steps]
    incidents = [f"incident: {kind}" for kind in INCIDENTS]
    bad = [f"bad event: {error}" for error, _ in BAD]
    wanted = [*rates, *crashes, *incidents, *bad, *HAPPENINGS, *RUNGS]
    assert not [name for name in wanted if not counts[name]]


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_one_seed_gives_the_same_bytes_twice(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first.digest() == second.digest()
    assert first.counts == second.counts


def test_other_seeds_give_other_bytes() -> None:
    assert len({run_seed(seed).digest() for seed in range(10)}) == 10


# -- the judges can fail ---------------------------------------------------------------------


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
        (NothingHeldBack, "finished"),
        (ListIgnored, "once"),
        (AnyAnswerIsAQuorum, "quorum"),
    ],
)
def test_a_broken_join_is_caught(
    broken: type[DeadlineJoin], judge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "DeadlineJoin", broken)
    assert caught(judge)


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
        (ZombieOutbox, restless),
        (NothingTakenBack, restless),
    ],
)
def test_a_broken_outbox_is_caught(
    broken: type[Outbox], planned: Callable[[int], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.combining.Outbox", broken)
    assert caught("once", planned=planned)
