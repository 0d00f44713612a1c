"""What goals about misbehaving models share: plans, events that are poison, what is counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.load import Event, good_event
from chaos.models_bad import POISON, POISON_TOO
from chaos.plan import Plan
from chaos.reader import read_all
from chaos.stage import Stage

RATE_PER_S = 2000
GOOD = {"mild": "chaos.models:mild", "steep": "chaos.models:steep"}
BAD = "chaos.models_bad:"
# Ten milliseconds below a boundary of the combiner's histogram.
DEADLINE_MS, DEADLINE_AND_SLACK_S = 90, "0.1"
# Nobody gives the model up, so that every event waits for it as long as may be.
PATIENT = {"failed_share": 1.0, "degraded_share": 1.0, "minimum_events": 1_000_000}


def plan_with(bad: Mapping[str, str], **tables: Mapping[str, Any]) -> Plan:
    """Two good models in a worker, and each bad one in a worker of its own."""
    workers = {"good": tuple(GOOD), **{name: (name,) for name in bad}}
    functions = {**GOOD, **{name: BAD + function for name, function in bad.items()}}
    combiner = {"deadline_ms": DEADLINE_MS, **tables.pop("combiner", {})}
    return Plan(models=functions, workers=workers, tables={"combiner": combiner, **tables})


class InTime:
    """Counts events whose score was decided by the deadline and ten milliseconds, from now on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._before = self._counts()

    def _counts(self) -> tuple[float, float]:
        name = "ensemble_join_seconds"
        within = self._stage.metric("combiner-0", f'{name}_bucket{{le="{DEADLINE_AND_SLACK_S}"}}')
        return within, self._stage.metric("combiner-0", f"{name}_count")

    def share(self) -> float:
        """Their share of the events that were decided since."""
        (within_before, before), (within, now) = self._before, self._counts()
        return (within - within_before) / max(1.0, now - before)


def records_of(stage: Stage) -> list[dict[str, Any]]:
    """Every scored record."""
    outcomes = read_all(stage.servers, stage.outputs, stage.plan.partitions)
    return [outcome.record for outcome in outcomes]


@dataclass(frozen=True, slots=True)
class PoisonedLoad:
    """Makes good events, and now and then one that some models do not survive.

    Attributes:
        every: how many events apart they are; the first half of that is without.
        limit: how many there are at most; their rows are all different up to six.
    """

    every: int
    limit: int = 6

    def __call__(self, number: int) -> Event:
        """The n-th event."""
        which, place = divmod(number, self.every)
        if place != self.every // 2 or which >= self.limit:
            return good_event(number)
        x = (POISON, POISON_TOO)[which % 2]
        note = (b"", b',"note":"a"', b',"note":"b"')[which // 2 % 3]
        _, key, timestamp_ms = good_event(number)
        return b'{"id":"e%d","x":%r%s}' % (number, x, note), key, timestamp_ms
