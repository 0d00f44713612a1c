"""Late answers, held against the scores that left without them: corrections and regret.

One of these belongs to a combiner. It remembers what left each partition (`combiner.corrections`),
is told of answers that came too late, and has the decider say what the score would be with them.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from combiner.corrections import Finals, Ints, Name, Revisions
from combiner.decision import Decider, Decisions
from combiner.join import DeadlineJoin
from combiner.outcome import Outcome
from combiner.settled import Settled
from combiner.window import EventBlock
from streams.instants import WallMs, iso_from_wall_ms
from streams.records import CorrectionRecord

Place = tuple[str, int]  # topic, partition
Record = tuple[bytes | None, bytes]

_encode = msgspec.json.Encoder().encode


class Hindsight:
    """What late answers would have changed.

    Args:
        decider: as the scores were decided.
        models: names by column.
        ensemble: `name@version`.
        rows: scores remembered for each partition.
        publish: whether corrections are wanted, and not only counted.

    Attributes:
        judged: (column, whether the label would have been another) → late answers.
    """

    def __init__(
        self, decider: Decider, models: Sequence[str], ensemble: str, rows: int, *, publish: bool
    ) -> None:
        self._decider = decider
        self._models = models
        self._ensemble = ensemble
        self._rows = rows
        self._publish = publish
        self._finals: dict[Place, Finals] = {}
        self._waiting: dict[Place, list[tuple[int, Revisions]]] = defaultdict(list)
        self.judged: Counter[tuple[int, bool]] = Counter()

    def close(self, place: Place) -> None:
        """Forget a partition."""
        self._finals.pop(place, None)
        self._waiting.pop(place, None)

    def remember(
        self, place: Place, rows: Settled, events: EventBlock, decisions: Decisions, here: slice
    ) -> None:
        """Scores that leave a partition; its rows stand at `here` in the decisions."""
        if place not in self._finals:
            self._finals[place] = Finals(self._rows, decisions.scores.shape[1])
        names: list[Name] = []
        if self._publish:
            names = list(zip(events.offsets.tolist(), events.ids, events.keys, strict=True))
        self._finals[place].remember(
            rows.numbers, decisions.scores[here], decisions.labels[here], names, events.facts
        )

    def look(self, place: Place, column: int, late: Sequence[Ints], join: DeadlineJoin) -> None:
        """Answers of one model came for rows that had left, by their numbers."""
        finals = self._finals.get(place)
        if finals is None:
            return
        for numbers in late:
            known = numbers[finals.known(numbers)]
            if not len(known):
                continue
            scores, labels, enough = self._decider.in_hindsight(
                *join.answers_to(known), finals.facts(known)
            )
            found = finals.revise(known[enough], scores[enough], labels[enough])
            changed = int(np.count_nonzero(found.changed))
            self.judged[column, True] += changed
            self.judged[column, False] += len(found.rows) - changed
            if self._publish and len(found.rows):
                self._waiting[place].append((column, found))

    def take(self, now_ms: WallMs) -> dict[Place, list[Record]]:
        """Key and value of the corrections since the last call, by partition."""
        if not self._waiting:
            return {}
        waiting, self._waiting = self._waiting, defaultdict(list)
        [time] = iso_from_wall_ms(np.array([now_ms]))
        return {
            place: [
                record
                for column, found in revisions
                for record in self._records(place, self._models[column], found, time)
            ]
            for place, revisions in waiting.items()
        }

    def _records(self, place: Place, model: str, found: Revisions, time: str) -> list[Record]:
        outcome: Outcome = self._decider.outcome
        records: list[Record] = []
        for name, revision, before, now, label_before, label_now, changed in zip(
            found.names,
            found.revision.tolist(),
            outcome.shown_scores(found.score_before, found.label_before),
            outcome.shown_scores(found.score_now, found.label_now),
            outcome.shown_labels(found.label_before),
            outcome.shown_labels(found.label_now),
            found.changed.tolist(),
            strict=True,
        ):
            assert name is not None, "names are remembered wherever corrections are wanted"
            offset, id_, key = name
            correction = CorrectionRecord(
                f"{place[0]}/{place[1]}/{offset}", id_, revision, model, self._ensemble,
                before, now, label_before, label_now, changed, time,
            )  # fmt: skip
            records.append((key, _encode(correction)))
        return records
