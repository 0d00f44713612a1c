"""Two runs side by side: how many decisions agree, and how far apart the others are."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from combiner.fallback import RUNGS

Place = tuple[str, int]  # topic, partition

_RUNGS: dict[str, int] = {name: rung for rung, name in enumerate(RUNGS)}
_ABSENT = -1


class _Brief(msgspec.Struct, frozen=True):
    """Of a scored record, what is compared."""

    source: str
    score: float
    label: int | str | None
    fallback: str


_decode = msgspec.json.Decoder(_Brief).decode


@dataclass(slots=True)
class Agreement:
    """How the decisions of a replay compare with those that were published.

    Attributes:
        compared: events with a score in both.
        same_label: of these, with the same label.
        same_score: with the same score, to the last bit.
        same_rung: with the same rung of the ladder.
        largest: the largest difference of two scores.
        total: the sum of the differences.
        rungs: (published, replayed) → events, where the rungs differ.
        only_published: events with a published score and none in the replay.
        only_replayed: the other way round.
        repeated: published a second time.
    """

    compared: int = 0
    same_label: int = 0
    same_score: int = 0
    same_rung: int = 0
    largest: float = 0.0
    total: float = 0.0
    rungs: Counter[tuple[str, str]] = field(default_factory=Counter)
    only_published: int = 0
    only_replayed: int = 0
    repeated: int = 0

    @property
    def mean(self) -> float:
        """The mean difference of two scores."""
        return self.total / self.compared if self.compared else 0.0

    def facts(self) -> dict[str, object]:
        """As a JSON object; shares are of the compared events."""
        of = max(self.compared, 1)
        return {
            "compared": self.compared,
            "same_label": self.same_label / of,
            "same_score": self.same_score / of,
            "same_rung": self.same_rung / of,
            "largest_difference": self.largest,
            "mean_difference": self.mean,
            "other_rungs": {
                f"{was} → {now}": count for (was, now), count in sorted(self.rungs.items())
            },
            "only_published": self.only_published,
            "only_replayed": self.only_replayed,
            "published_twice": self.repeated,
        }


class Ledger:
    """The decisions of a replay, held against published ones; 18 bytes an event.

    Args:
        stretches: input partition → offsets from and up to.
    """

    def __init__(self, stretches: dict[Place, tuple[int, int]]) -> None:
        self._first = {place: start for place, (start, _) in stretches.items()}
        counts = {place: stop - start for place, (start, stop) in stretches.items()}
        self._scores: dict[Place, NDArray[np.float64]] = {
            place: np.empty(count) for place, count in counts.items()
        }
        self._labels: dict[Place, NDArray[np.object_]] = {
            place: np.empty(n, dtype=np.object_) for place, n in counts.items()
        }
        self._names: dict[int | str | None, int | str | None] = {}
        self._rungs = {place: np.full(n, _ABSENT, dtype=np.int8) for place, n in counts.items()}
        self._met = {place: np.zeros(n, dtype=np.bool_) for place, n in counts.items()}
        self.agreement = Agreement()

    def add(self, values: Iterable[bytes]) -> None:
        """Take in scored records of the replay."""
        for value in values:
            brief = _decode(value)
            place, row = self._row(brief.source)
            if row is not None:
                self._scores[place][row] = brief.score
                # Each label once, however many events have it.
                self._labels[place][row] = self._names.setdefault(brief.label, brief.label)
                self._rungs[place][row] = _RUNGS.get(brief.fallback, _ABSENT)

    def compare(self, values: Iterable[bytes]) -> None:
        """Hold published records against them; of several of one event the first counts."""
        found = self.agreement
        for value in values:
            try:
                brief = _decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # somebody else's
            place, row = self._row(brief.source)
            if row is None:
                continue
            if self._met[place][row]:
                found.repeated += 1
                continue
            self._met[place][row] = True
            rung = int(self._rungs[place][row])
            if rung == _ABSENT:
                found.only_published += 1
                continue
            apart = abs(brief.score - float(self._scores[place][row]))
            found.compared += 1
            found.same_label += brief.label == self._labels[place][row]
            found.same_score += apart == 0.0
            found.largest = max(found.largest, apart)
            found.total += apart
            if brief.fallback == RUNGS[rung]:
                found.same_rung += 1
            else:
                found.rungs[brief.fallback, RUNGS[rung]] += 1

    @property
    def complete(self) -> bool:
        """Whether each score of the replay was met among the published ones."""
        return all(
            bool(self._met[place][rungs != _ABSENT].all()) for place, rungs in self._rungs.items()
        )

    def finish(self) -> Agreement:
        """The comparison, once all published records were seen."""
        self.agreement.only_replayed = sum(
            int(np.count_nonzero((rungs != _ABSENT) & ~self._met[place]))
            for place, rungs in self._rungs.items()
        )
        return self.agreement

    def _row(self, source: str) -> tuple[Place, int | None]:
        """The place of an event, and its row there; None where it is outside the stretch."""
        where, _, offset = source.rpartition("/")
        topic, _, partition = where.rpartition("/")
        try:
            place, at = (topic, int(partition)), int(offset)
        except ValueError:
            return ("", 0), None
        row = at - self._first.get(place, at + 1)
        return place, row if 0 <= row < len(self._met.get(place, ())) else None
