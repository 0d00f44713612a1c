"""One seed, one run: who lives in the world, what happens to them, and when it is over."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cache.latest import Latest
from combiner.ahead import decode
from combiner.calibration import Calibrator
from combiner.cascade import CascadeRule, UncertainScore
from combiner.core import Combiner
from combiner.decision import Decider, DecisionConfig
from combiner.encoding import Names, ScoreEncoder
from combiner.fallback import Ladder
from combiner.health import HealthConfig
from combiner.limits import JoinConfig
from combiner.outcome import BINARY, Outcome
from combiner.quorum import CertainLabel, Quorum, ShareQuorum
from combiner.strategies.median import Median
from combiner.strategies.protocol import Strategy
from combiner.strategies.weighted_mean import WeightedMean
from simulation.clock import Agenda, VirtualClock
from simulation.combining import CombinerProcess
from simulation.faults import Incident, Plan, plan_of
from simulation.group import Group
from simulation.inputs import EXPECT, GOOD, event_of, nonsense, shares
from simulation.journal import Journal
from simulation.log import Entry, Log, UnstableError
from simulation.outbox import ENSEMBLE
from simulation.process import PREDICTIONS, Surroundings
from simulation.working import WorkerProcess
from streams.columns import Place
from streams.instants import NS_PER_MS

WALL_START_MS = 1_700_000_000_000
PRIOR = 0.1
CACHED_MAX_AGE_MS = 3_600_000
# When the faults are over the world is given this long to come to rest.
_REST_MS = 12_000
_LOOK_MS = 100

Build = Callable[[Surroundings, int], Combiner]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run leaves behind, for the judges."""

    plan: Plan
    log: Log
    journal: Journal
    counts: Counter[str]
    finished: bool

    def digest(self) -> str:
        """A hash over every byte of every record: equal for equal runs."""
        found = hashlib.sha256()
        for place, entries in self.log.all_entries():
            for entry in entries:
                content = entry and (
                    entry.record_key, entry.record_value, entry.record_ms, entry.appended_ns,
                    entry.record_headers,
                )  # fmt: skip
                found.update(repr((place, content)).encode())
        return found.hexdigest()


def weights_of(plan: Plan) -> list[float]:
    """Each model's weight, all different so that a mix-up shows."""
    return [1.0 + place / 2 for place in range(len(plan.members))]


def build_combiner(around: Surroundings, now_ns: int) -> Combiner:
    """The real core, with the plan's configuration."""
    plan = around.plan
    reserves = np.array([member.reserve for member in plan.members])
    weights = np.array(weights_of(plan))
    names = [member.name for member in plan.members]

    def recall(entities: Sequence[str]) -> list[Latest | None]:
        if around.clock.now_ns < around.cache_dead_until_ns:
            around.counts["cache asked while dead"] += 1
            return [None] * len(entities)
        return [around.memory.get(entity) for entity in entities]

    outcome = Outcome("multiclass", plan.classes) if plan.classes else BINARY
    prior = shares(np.array(PRIOR)).tolist() if plan.classes else (PRIOR,)
    strategy = WeightedMean(weights) if plan.strategy == "weighted_mean" else Median()
    calibrator = Calibrator(names, {})
    quorum: Quorum | None = None
    if plan.quorum == "share":
        quorum = ShareQuorum(weights, plan.quorum_share, ~reserves, plan.minimum_members)
    elif plan.quorum == "certain":
        quorum = CertainLabel(strategy, calibrator, ~reserves, 0.0, 1.0, plan.minimum_members)
    ladder = Ladder(reserves, plan.rungs, plan.minimum_members)
    decider = Decider(
        DecisionConfig(
            weights, prior, 0.5, CACHED_MAX_AGE_MS, explain=True, outcome=outcome,
            cascade=bool(plan.heavy),
        ),
        ladder, calibrator, strategy, recall,
    )  # fmt: skip
    return Combiner(
        plan.members,
        JoinConfig(
            len(names), plan.deadline_ms * NS_PER_MS, plan.stall_ms * NS_PER_MS,
            plan.limit_ms * NS_PER_MS, plan.order == "partition", plan.ahead_bytes, quorum,
            columns=outcome.columns,
            cascade=_cascade_of(plan, ladder, calibrator, strategy) if plan.heavy else None,
        ),
        HealthConfig(1000 * NS_PER_MS, 0.3, 0.6, 5, 3),
        decider,
        ScoreEncoder(Names(ENSEMBLE, names, outcome), reserves, explain=True),
        ENSEMBLE,
        now_ns,
    )  # fmt: skip


def _cascade_of(
    plan: Plan, ladder: Ladder, calibrator: Calibrator, strategy: Strategy
) -> UncertainScore:
    heavy = np.array([member.name in plan.heavy for member in plan.members])
    rule = CascadeRule(plan.low, plan.high, plan.max_dispersion)
    return UncertainScore(rule, heavy, ladder, calibrator, strategy)


class World:
    """The processes of a plan, around one log."""

    def __init__(
        self,
        plan: Plan,
        build: Build = build_combiner,
    ) -> None:
        clock = VirtualClock(WALL_START_MS)
        combiners = Group("combiner", plan.partitions)
        workers = {f"worker.{i}": Group(f"worker.{i}", plan.partitions)
                   for i in range(len(plan.workers))}  # fmt: skip
        self.around = Surroundings(
            plan, np.random.default_rng([plan.seed, 2]), clock, Agenda(clock),
            Log(clock, plan.ahead_bytes),
            Journal(), {"combiner": combiners, **workers}, build, Counter(), {}, {},
        )  # fmt: skip
        around = self.around
        self._combiners = {
            name: CombinerProcess(around, name)
            for name in (f"combiner.{i}" for i in range(plan.combiners))
        }
        self._workers = {
            f"worker.{i}": WorkerProcess(around, f"worker.{i}", models)
            for i, models in enumerate(plan.workers)
        }

    def run(self) -> Run:
        """From the first event until everything has come to rest."""
        around, plan = self.around, self.around.plan
        agenda = around.agenda
        for number in range(plan.events):
            at_ms = int(around.dice.integers(0, plan.lasts_ms)) // plan.burst_ms * plan.burst_ms
            agenda.after(at_ms * NS_PER_MS, partial(self._produce, number))
        for place, process in enumerate([*self._workers.values(), *self._combiners.values()]):
            agenda.after((plan.starts_ms + 7 * place) * NS_PER_MS, process.start)
        for incident in plan.incidents:
            agenda.after(incident.at_ms * NS_PER_MS, partial(self._strike, incident))
        over_ms = plan.lasts_ms + 300
        agenda.run(over_ms * NS_PER_MS)
        self._calm_down()
        finished = False
        for look_ms in range(over_ms, over_ms + _REST_MS, _LOOK_MS):
            agenda.run(look_ms * NS_PER_MS)
            if finished := self._at_rest():
                break
        around.counts["rebalances"] += around.groups["combiner"].rebalances
        return Run(plan, around.log, around.journal, around.counts, finished)

    # -- what happens ------------------------------------------------------------------------

    def _produce(self, number: int) -> None:
        around, plan, dice = self.around, self.around.plan, self.around.dice
        topic = plan.inputs[int(dice.integers(len(plan.inputs)))]
        place = (topic, int(dice.integers(plan.partitions)))
        if around.happens("gap"):
            self._leave_gap(place)
        key, value, expected = event_of(
            number, dice, bad=plan.rate("bad event"), moody=plan.rate("refused")
        )
        late_ms = int(dice.choice([0, 0, 5, 3_600_000, -3_600_000]))
        event = around.log.append(
            place, key, value, [(EXPECT, expected)],
            record_ms=around.clock.wall_ms() - late_ms,
        )  # fmt: skip
        around.counts["events" if expected == GOOD else f"bad event: {expected.decode()}"] += 1
        if around.happens("nonsense"):
            self._talk_nonsense(event)

    def _leave_gap(self, place: tuple[str, int]) -> None:
        """Compaction, or a producer's transaction that came to nothing."""
        log = self.around.log
        if self.around.dice.random() < 0.5:
            log.skip(place, int(self.around.dice.integers(1, 4)))
        else:
            epoch = log.begin_epoch("producer")
            transaction = log.begin("producer", epoch)
            log.append(place, None, b'{"id":-1}', transaction=transaction)
            log.end("producer", epoch, "aborted")

    def _talk_nonsense(self, event: Entry) -> None:
        place = (PREDICTIONS, event.place[1])
        value = nonsense(event, self.around.dice)
        self.around.log.append(place, b"stranger", value)

    def _strike(self, incident: Incident) -> None:
        around = self.around
        until_ns = around.clock.now_ns + incident.for_ms * NS_PER_MS
        match incident.kind:
            case "crash" | "pause" | "leave":
                if not self._hit(incident):
                    return
            case "silent":
                around.silent_until_ns[incident.whom] = until_ns
            case "cache":
                around.cache_dead_until_ns = until_ns
            case "wall clock":
                around.clock.step_wall(incident.for_ms * (-1) ** (incident.at_ms % 2))
        around.counts[f"incident: {incident.kind}"] += 1

    def _hit(self, incident: Incident) -> bool:
        """Hit a process; False if it is not there to be hit."""
        combiner = self._combiners.get(incident.whom)
        process = combiner or self._workers.get(incident.whom)
        if process is None or not process.present:
            return False
        if incident.kind == "crash":
            process.kill(incident.for_ms)
        elif incident.kind == "pause":
            process.pause(incident.for_ms)
        elif combiner is not None:
            combiner.leave()
            self.around.agenda.after(incident.for_ms * NS_PER_MS, combiner.start)
        return True

    # -- the end -----------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """No more faults; everybody is up, and may finish."""
        self.around.calm = True
        for process in [*self._workers.values(), *self._combiners.values()]:
            process.start()

    def _at_rest(self) -> bool:
        """Whether the combiners' positions are at the end of all inputs and nobody is at it."""
        log, plan = self.around.log, self.around.plan
        if any(not process.present for process in self._combiners.values()):
            return False
        if any(combiner.outbox.unpublished for combiner in self._combiners.values()):
            return False
        events = [record for topic in plan.inputs for record in log.committed_records(topic)]
        numbers: dict[Place, list[int]] = {}
        for record in events:
            numbers.setdefault(record.place, []).append(record.number)
        group = self.around.groups["combiner"].name
        try:
            found = {place: log.committed(group, place) for place in numbers}
        except UnstableError:
            return False
        # What stands beside an offset is done; with nothing left to do nobody commits it again.
        return all(
            decode(*found[place])
            .contain(np.array([n for n in each if n >= found[place].offset]))
            .all()
            for place, each in numbers.items()
        )


def run_seed(seed: int) -> Run:
    """The run of a seed."""
    return World(plan_of(seed)).run()
