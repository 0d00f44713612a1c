"""Everything that a seed decides before the first event: the pipeline's shape and its faults.

Each kind of fault is on in about half of the runs and off in the others: a run with everything
at once is so busy with one fault that it never gets to see another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from combiner.ahead import MOST_BYTES
from combiner.intake import Member
from simulation.inputs import CLASSES
from streams.records import Fallback

# Of so many seeds one has models of three classes.
SEEDS_PER_CLASSES = 5
# Of so many, one has a cascade.
SEEDS_PER_CASCADE = 4
# Of so many, one has workers whose models share a thread and a record while they are free.
SEEDS_PER_ROUNDS = 3

Delivery = Literal["exactly_once", "at_least_once"]

# Fault → how often it happens where it is on, by the record, the call or the step concerned.
RATES: Mapping[str, float] = {
    "lost": 0.1,  # a frame that never arrives, though its worker believes so; an escalation
    "delayed": 0.15,  # a frame that is overtaken by later ones
    "duplicated": 0.2,  # a frame that comes again, with other scores; an escalation
    "slow": 0.15,  # a call that lasts longer than the deadline
    "refused": 0.1,  # rows for which models raise, or say NaN, or leave their range
    "nonsense": 0.1,  # beside each event: bytes, versions, models, partitions that are wrong
    "bad event": 0.15,
    "gap": 0.2,  # offsets without an event
    "crash at a step": 0.02,
    "commit fails": 0.1,  # half of the time after it took effect
    "no drain": 0.5,  # a rebalance that does not wait for what is on its way
    "partial fetch": 0.5,
}

# A group's offset as it was some commits ago; where outcomes can tell that it is old.
OLD_POSITION = "old position"
_OLD_POSITION_RATE = 0.3

# A broker that is killed, calls a transaction committed when it is back, and leaves it hanging.
MARKERS_SKIPPED = "markers skipped"
_MARKERS_SKIPPED_RATE = 0.1

# A fetch that the models answer together.
ROUND = "round"
_ROUND_RATE = 0.5

# Incident → whom it can hit, how long it lasts at most (ms).
INCIDENTS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "crash": (("combiner.0", "combiner.1", "worker.0", "worker.1"), 900),
    "pause": (("combiner.0", "combiner.1", "worker.0", "worker.1"), 900),
    "leave": (("combiner.0", "combiner.1"), 600),
    "silent": (("a", "b", "c"), 800),
    "cache": (("",), 800),
    "wall clock": (("",), 600_000),
}


@dataclass(frozen=True, slots=True)
class Incident:
    """Something happens to somebody at an instant (ms from the start), for a while."""

    at_ms: int
    kind: str
    whom: str
    for_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    `ahead_bytes` is the most that the log takes beside a committed offset.

    `rates` holds the faults that are on. Events come in bursts every `burst_ms`, for `lasts_ms`;
    the processes start `starts_ms` after the first, and what came before them is backlog. Without
    `classes` the models are binary. `heavy` models are asked where the score of the others lies
    from `low` to `high`, or where these are further apart than `max_dispersion`.
    """

    seed: int
    delivery: Delivery
    inputs: tuple[str, ...]
    partitions: int
    members: tuple[Member, ...]
    workers: tuple[tuple[str, ...], ...]
    combiners: int
    strategy: Literal["weighted_mean", "median"]
    rungs: frozenset[Fallback]
    minimum_members: int
    order: Literal["partition", "ready"]
    ahead_bytes: int
    quorum: Literal["all", "share", "certain"]
    quorum_share: float
    deadline_ms: int
    stall_ms: int
    limit_ms: int
    max_pending: int
    events: int
    lasts_ms: int
    burst_ms: int
    starts_ms: int
    rates: Mapping[str, float]
    incidents: tuple[Incident, ...]
    classes: tuple[str, ...] = ()
    heavy: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    max_dispersion: float = math.inf

    def rate(self, fault: str) -> float:
        """How often a fault happens here."""
        return self.rates.get(fault, 0.0)


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    dice = np.random.default_rng([seed, 1])
    models = ["a", "b", "c"][: int(dice.integers(2, 4))]
    members = [Member(name, f"{name}1", 0.0, 1.0, reserve=False) for name in models]
    if dice.random() < 0.6:
        members.append(Member("r", "", None, None, reserve=True))
    optional: tuple[Fallback, ...] = ("partial", "reserve", "cached")
    rungs = frozenset(rung for rung in optional if dice.random() < 0.85)
    lasts_ms = int(dice.integers(200, 1200))
    names = [member.name for member in members]
    plan = Plan(
        seed=seed,
        delivery="exactly_once" if dice.random() < 0.6 else "at_least_once",
        inputs=("events", "orders")[: 1 + int(dice.random() < 0.3)],
        partitions=int(dice.integers(1, 4)),
        members=tuple(members),
        workers=(tuple(names[:2]), tuple(names[2:])) if names[2:] else (tuple(names),),
        combiners=1 + int(dice.random() < 0.4),
        strategy="weighted_mean" if dice.random() < 0.7 else "median",
        rungs=rungs,
        minimum_members=int(dice.integers(1, 3)),
        order="partition" if dice.random() < 0.5 else "ready",
        # Room for one run of offsets that left ahead, for three, or for all of them.
        ahead_bytes=int(dice.choice([11, 16, MOST_BYTES, MOST_BYTES])),
        quorum=_quorum(dice.random()) if "partial" in rungs else "all",
        quorum_share=float(dice.choice([0.4, 0.7])),
        deadline_ms=int(dice.integers(20, 100)),
        stall_ms=int(dice.integers(60, 300)),
        limit_ms=int(dice.integers(800, 2000)),
        max_pending=int(dice.choice([5, 1000])),
        events=int(dice.integers(5, 45)),
        lasts_ms=lasts_ms,
        burst_ms=int(dice.choice([1, 1, 100])),
        starts_ms=int(dice.choice([0, 0, lasts_ms // 2, lasts_ms])),
        rates={fault: rate for fault, rate in RATES.items() if dice.random() < 0.5},
        incidents=_incidents(dice, lasts_ms),
    )
    checked = plan.delivery == "exactly_once" and plan.order == "partition"
    if checked and np.random.default_rng([seed, 5]).random() < 0.5:
        plan = replace(plan, rates={**plan.rates, OLD_POSITION: _OLD_POSITION_RATE})
    if plan.delivery == "exactly_once" and np.random.default_rng([seed, 6]).random() < 0.5:
        plan = replace(plan, rates={**plan.rates, MARKERS_SKIPPED: _MARKERS_SKIPPED_RATE})
    if seed % SEEDS_PER_ROUNDS == 0:
        plan = replace(plan, rates={**plan.rates, ROUND: _ROUND_RATE})
    if seed % SEEDS_PER_CASCADE == SEEDS_PER_CASCADE - 1:
        plan = _with_cascade(plan)
    if seed % SEEDS_PER_CLASSES:
        return plan
    # Whether a label is certain can be told of two classes only.
    quorum = "share" if plan.quorum == "certain" else plan.quorum
    columns = len(CLASSES)
    several = tuple(replace(member, columns=columns) for member in plan.members)
    return replace(plan, classes=CLASSES, members=several, quorum=quorum)


def _with_cascade(plan: Plan) -> Plan:
    """The same with the last one or two members heavy, in a worker of their own."""
    dice = np.random.default_rng([plan.seed, 4])
    names = [member.name for member in plan.members if not member.reserve]
    heavy = tuple(names[int(dice.integers(1, len(names))) :])
    others = tuple(member.name for member in plan.members if member.name not in heavy)
    middle, width = 0.2 + 0.6 * dice.random(), 0.05 + 0.25 * dice.random()
    return replace(
        plan,
        quorum="all",
        workers=(others, heavy),
        heavy=heavy,
        low=middle - width,
        high=middle + width,
        max_dispersion=float(dice.choice([0.1, 0.3, math.inf])),
    )


def _quorum(chance: float) -> Literal["all", "share", "certain"]:
    if chance < 0.6:
        return "all"
    return "share" if chance < 0.8 else "certain"


def _incidents(dice: np.random.Generator, lasts_ms: int) -> tuple[Incident, ...]:
    kinds = [kind for kind in INCIDENTS if dice.random() < 0.5]
    found = []
    for _ in range(int(dice.integers(0, 6)) if kinds else 0):
        kind = kinds[int(dice.integers(len(kinds)))]
        whom, longest_ms = INCIDENTS[kind]
        found.append(
            Incident(
                int(dice.integers(0, lasts_ms + 200)),
                kind,
                whom[int(dice.integers(len(whom)))],
                int(dice.integers(1, longest_ms)),
            )
        )
    return tuple(sorted(found, key=lambda incident: incident.at_ms))
