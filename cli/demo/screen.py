"""What the demo shows while it runs: a live table, or a line a second without a terminal."""

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from cli.demo.summary import PHASES, Observations, quantiles

if TYPE_CHECKING:
    from streams.records import HealthRecord

# Quantiles on the screen are those of the newest records: they should move.
_RECENT = 2000
_COLOURS = {"HEALTHY": "green", "DEGRADED": "yellow", "FAILED": "red", "PROBING": "cyan"}


class Screen:
    """A context manager; `update` redraws, at most as often as it is called."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._previous = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(
        self,
        phase: int,
        observed: Observations,
        health: "Mapping[str, HealthRecord]",
        seconds: float,
    ) -> None:
        """Show the state of things; `seconds` since the last call."""
        recent = observed.seen[-_RECENT:]
        rate = (len(observed.seen) - self._previous) / seconds
        self._previous = len(observed.seen)
        found = quantiles([record.latency_ms for record in recent])
        rungs = Counter(record.fallback for record in recent)
        facts = {
            "phase": PHASES[phase],
            "events": f"{len(observed.phase_of):,}",
            "scores": f"{len(observed.seen):,}",
            "scores/s": f"{rate:,.0f}",
            **{name: f"{value:.0f} ms" for name, value in found.items()},
            "fallbacks": ", ".join(f"{rung} {count}" for rung, count in rungs.most_common()),
        }
        if self._live is None:
            states = " ".join(f"{model}={record.state}" for model, record in health.items())
            line = "  ".join(f"{name} {value}" for name, value in facts.items())
            self._console.print(f"{line}  {states}", highlight=False, soft_wrap=True)
            return
        self._live.update(Group(_facts(facts), _health(health)), refresh=True)


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(*facts, box=None)
    table.add_row(*facts.values())
    return table


def _health(health: "Mapping[str, HealthRecord]") -> Table:
    table = Table("model", "state", "answered", "late", "refused", "missed", "mean ms", box=None)
    for model, record in health.items():
        latency = "" if record.latency_ms is None else f"{record.latency_ms:.1f}"
        counts = (record.answered, record.late, record.refused, record.missed)
        state = f"[{_COLOURS[record.state]}]{record.state}"
        table.add_row(model, state, *map(str, counts), latency)
    return table
