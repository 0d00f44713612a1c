"""Random runs keep every promise, and exercise every fault."""

from collections import Counter
from functools import cache

import pytest

from combiner.fallback import RUNGS
from simulation.checkers import rungs_of, violations
from simulation.faults import (
    INCIDENTS,
    MARKERS_SKIPPED,
    OLD_POSITION,
    RATES,
    ROUND,
)
from simulation.inputs import BAD
from simulation.world import run_seed

SEEDS = 500

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
    MARKERS_SKIPPED, OLD_POSITION, ROUND,
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
