"""From decisions to the bytes of scored records and dead letters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from combiner.decision import Absences, Decisions
from combiner.fallback import RUNGS
from combiner.outcome import BINARY, Outcome
from combiner.settled import Settled
from combiner.telling import explained, latencies
from combiner.window import EventBlock
from streams.frames import UNSTATED_REASON
from streams.instants import WallMs, iso_from_wall_ms
from streams.records import ScoredRecord

# For each event a set of labels, or from and to, and how often the truth is inside.
Promised = tuple[
    Iterable[Sequence[int | str] | None], Iterable[Sequence[float] | None], Iterable[float | None]
]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Names:
    """What scored records call things: `name@version`, the models in column order, the classes."""

    ensemble: str
    models: Sequence[str]
    outcome: Outcome = BINARY


class ScoreEncoder:
    """Encodes the scored records of one ensemble."""

    def __init__(self, names: Names, reserves: NDArray[np.bool_], *, explain: bool) -> None:
        self._names = names
        self._absences = Absences(names.models, reserves)
        self._explain = explain

    def encode(
        self,
        sources: Sequence[str],
        settled: Settled,
        block: EventBlock,
        decisions: Decisions,
        waited_for: NDArray[np.bool_],
        now_ms: WallMs,
        now_ns: int = 0,
    ) -> list[bytes]:
        """One JSON object for each of N events; bad events give empty bytes.

        Args:
            sources: `topic/partition/offset` of each event.
            settled: the rows.
            block: their events.
            decisions: their scores.
            waited_for: bool[M], who was waited for.
            now_ms: wall clock.
            now_ns: monotonic time, for where the latency went.
        """
        models, missing, not_asked = self._patterns(settled, decisions.used, waited_for)
        outcome, labels = self._names.outcome, decisions.labels
        # In the order of the record's fields; what is absent is the same for all.
        columns = (
            block.ids,
            outcome.shown_scores(decisions.scores, labels),
            outcome.shown_labels(labels),
            np.round(decisions.confidence, 6).tolist(),
            repeat(self._names.ensemble),
            models,
            missing,
            [RUNGS[rung] for rung in decisions.rungs.tolist()],
            iso_from_wall_ms(block.time_ms),
            (now_ms - block.record_ms).astype(np.float64).tolist(),
            sources,
            self._ages(decisions, now_ms),
            self._by_model(decisions.calibrated, decisions.used),
            self._by_model(decisions.contributions, decisions.used),
            self._by_class(decisions.scores),
            explained(decisions.explanation, self._names.models, outcome, len(settled)),
            latencies(
                settled, decisions.used, block.record_ms, self._names.models, (now_ns, now_ms)
            ),
            *self._promised(decisions),
            not_asked,
        )
        values = list(map(_encode, map(ScoredRecord, *columns)))
        assert len(values) == len(settled)
        for place in block.bad:
            values[place] = b""
        return values

    def _patterns(
        self, settled: Settled, used: NDArray[np.bool_], waited_for: NDArray[np.bool_]
    ) -> tuple[list[list[str]], list[dict[str, str]], list[Sequence[str]]]:
        """For each event the models used, the missing ones with reasons, and those not asked.

        Events of a batch share few patterns, so names are put together once for each.
        """
        parts = [settled.states, used, settled.hurried[:, None]]
        cells = np.ascontiguousarray(np.concatenate(parts, axis=1))
        first, pattern = _distinct(cells)
        names = [
            [model for model, yes in zip(self._names.models, used[row], strict=True) if yes]
            for row in first.tolist()
        ]
        absent = [
            self._absences.missing(
                settled.states[row], waited_for, hurried=bool(settled.hurried[row])
            )
            for row in first.tolist()
        ]
        unasked = [self._absences.not_asked(settled.states[row]) for row in first.tolist()]
        places = pattern.tolist()
        missing = [absent[place] for place in places]
        for row, why in enumerate(missing):
            if "refused" in why.values():
                missing[row] = self._with_reasons(row, why, settled.reasons)
        return [names[place] for place in places], missing, [unasked[place] for place in places]

    def _with_reasons(
        self, row: int, why: dict[str, str], reasons: dict[tuple[int, int], str]
    ) -> dict[str, str]:
        columns = {model: column for column, model in enumerate(self._names.models)}
        return {
            model: f"refused: {reasons.get((row, columns[model]), UNSTATED_REASON)}"
            if kind == "refused"
            else kind
            for model, kind in why.items()
        }

    def _ages(self, decisions: Decisions, now_ms: WallMs) -> list[int | None]:
        ages: list[int | None] = [None] * len(decisions.scores)
        for row, at_ms in decisions.cached_at_ms.items():
            ages[row] = max(0, now_ms - at_ms)
        return ages

    def _by_model(
        self, cells: NDArray[np.float64] | None, used: NDArray[np.bool_]
    ) -> Sequence[Mapping[str, float | dict[str, float]] | None]:
        """For each event model → number, or numbers by class, where it was used.

        Nothing unless explaining.
        """
        if not self._explain or cells is None:
            return [None] * len(used)
        outcome, rounded = self._names.outcome, np.round(cells, 6)
        shown = (rounded[:, :, 0] if outcome.columns == 1 else rounded).tolist()
        return [
            {
                model: outcome.by_class(value) if outcome.columns > 1 else value
                for model, value, yes in zip(self._names.models, row, here, strict=True)
                if yes
            }
            for row, here in zip(shown, used.tolist(), strict=True)
        ]

    def _by_class(self, scores: NDArray[np.float64]) -> Sequence[dict[str, float] | None]:
        """For each event class → probability; nothing where there are no classes."""
        outcome = self._names.outcome
        if outcome.columns == 1:
            return [None] * len(scores)
        return [outcome.by_class(row) for row in scores.tolist()]

    def _promised(self, decisions: Decisions) -> Promised:
        """For each event the labels that may be true, or the range, and the promised coverage."""
        promises = decisions.promises
        if promises is None:
            return repeat(None), repeat(None), repeat(None)
        known = promises.known.tolist()
        coverages = [promises.coverage if yes else None for yes in known]
        if promises.ranges is not None:
            ranges = zip(promises.ranges.tolist(), known, strict=True)
            return repeat(None), [ends if yes else None for ends, yes in ranges], coverages
        assert promises.inside is not None
        # A few sets are shared by many events.
        names: Sequence[int | str] = self._names.outcome.classes or (0, 1)
        codes = (promises.inside @ 2 ** np.arange(len(names))).tolist()
        sets = {
            code: [name for place, name in enumerate(names) if code >> place & 1]
            for code in set(codes)
        }
        inside = zip(codes, known, strict=True)
        return [sets[code] if yes else None for code, yes in inside], repeat(None), coverages


def _distinct(cells: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of uint8[N, C]: the places of the distinct rows, and int64[N], which of them each row is."""
    if len(cells) and (cells == cells[0]).all():
        return np.zeros(1, dtype=np.int64), np.zeros(len(cells), dtype=np.int64)
    keys = cells.view(np.dtype((np.void, cells.shape[1]))).ravel()
    _, first, pattern = np.unique(keys, return_index=True, return_inverse=True)
    return first, pattern.ravel()
