"""A stretch of the past, decided again, and held against what was published then."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import numpy as np
from confluent_kafka import Message

from combiner.assembly import combiner_of, members_of
from combiner.core import Combiner
from combiner.decision import Recall
from combiner.fallback import RUNGS
from combiner.output import Output
from combiner.refining import facts_wanted, knowledge_of
from combiner.window import EventBlock, block_of
from registry.bundle import LoadedBundle
from replay.again import Again, Recollection
from replay.bounds import Bound
from replay.ledger import Agreement, Ledger
from replay.output import ScoreOutput
from replay.reading import stretch_between
from replay.recorded import Recorded
from replay.relive import frames_in, relived
from replay.scoring import Scorer
from replay.table import AnswerTable
from replay.timeline import Memory, Timeline
from streams.columns import Columns, columns_of
from streams.errors import DataError
from streams.instants import NS_PER_MS
from streams.mapping import decoder_of
from streams.records import ScoredRecord
from streams.settings import Settings
from streams.stretches import Place, Stretch, StretchReader

# Answers and scores are looked for from so long before the first event's timestamp on: clocks of
# machines differ by less.
_SLACK_MS = 60_000
# Events decided together where nothing waits.
_BLOCK_EVENTS = 2000
# Events whose answers are held in memory at once, 16 bytes a model.
_SEGMENT_EVENTS = 500_000

_decode_scored = msgspec.json.Decoder(ScoredRecord).decode
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be decided again, and how.

    Attributes:
        start: where the stretch begins.
        stop: where it ends.
        rescore: let the models score the events anew; else their recorded answers are taken.
        as_recorded: for each event those models count that were there in time then; else, with
            recorded answers, the timestamps tell, and with new ones everybody is there.
        compare: hold the result against what was published.
        tick_ms: resolution of the virtual clock.
    """

    start: Bound
    stop: Bound
    rescore: bool = False
    as_recorded: bool = False
    compare: bool = False
    tick_ms: int = 10


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        stretches: input partition → offsets from and up to.
        rungs: scores by rung.
        dead: events that could not be scored, by kind.
        bad_frames: `predictions` records that did not count, by reason.
        not_found: model → answers that were there then and are no longer in the log.
        without_record: good events of which no published score was found, with `as_recorded`.
        sha256: of all scores, as lines.
        took_s: seconds.
        agreement: with `compare`.
    """

    stretches: dict[Place, Stretch]
    rungs: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    bad_frames: Counter[str] = field(default_factory=Counter)
    not_found: Counter[str] = field(default_factory=Counter)
    without_record: int = 0
    sha256: str = ""
    took_s: float = 0.0
    agreement: Agreement | None = None

    @property
    def scored(self) -> int:
        """Events that have a score."""
        return self.rungs.total()

    @property
    def events(self) -> int:
        """Events that were decided."""
        return self.scored + self.dead.total()


class Replay:
    """One run.

    Args:
        settings: the configuration; topics, models, strategy and limits are its own.
        bundle: the ensemble that decides.
        wanted: see there.
        output: where the scores go.
        report: told how far it is: offsets of events done, and in all.
        stop: when set, the run ends early.

    Raises:
        ConfigurationError, BundleError: settings and bundle do not fit together.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: LoadedBundle,
        wanted: Wanted,
        output: ScoreOutput,
        report: Report,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._bundle = bundle
        self._wanted = wanted
        self._output = output
        self._report = report
        self._stop = stop
        self._facts = facts_wanted(settings)
        features = self._facts is not None and self._facts.features
        self._decoder = decoder_of(bundle.manifest.schema, settings.event, features=features)
        self._members = members_of(settings, bundle.manifest)
        self._result = Result({})
        self._ledger: Ledger | None = None
        self._done = 0

    def run(self) -> Result:
        """Decide the stretch again.

        Raises:
            DataError: there is nothing in the stretch.
            BrokerError: the broker refuses or does not answer.
        """
        began_s = time.monotonic()
        result = self._result
        with StretchReader(self._settings.kafka) as reader:
            for place in reader.places(self._settings.topics.inputs):
                stretch = stretch_between(reader, place, self._wanted.start, self._wanted.stop)
                if stretch is not None:
                    result.stretches[place] = stretch
            if not result.stretches:
                raise DataError("no events between the given bounds")
            if self._wanted.compare:
                self._ledger = Ledger(result.stretches)
            if self._wanted.rescore or self._wanted.as_recorded:
                self._decide_again(reader)
            else:
                self._relive(reader)
            result.took_s = time.monotonic() - began_s
            if self._ledger is not None:
                result.agreement = self._compared(reader, self._ledger)
        result.sha256 = self._output.sha256
        return result

    def _core(self, recall: Recall) -> Combiner:
        name = f"{self._settings.ensemble.name}@{self._bundle.version}"
        knowledge = knowledge_of(self._bundle, self._settings)
        return combiner_of(self._settings, self._bundle.manifest, name, recall, 0, knowledge)

    def _take(self, outputs: Sequence[Output]) -> None:
        """Count and write what was decided."""
        self._count(outputs)
        for output in outputs:
            self._write(output.place, output.scored)

    def _count(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            for rung, count in zip(RUNGS, output.fallbacks.tolist(), strict=True):
                if count:
                    self._result.rungs[rung] += count
            for _, bad in output.dead:
                self._result.dead[bad.why.error] += 1

    def _write(self, place: Place, records: Sequence[tuple[bytes | None, bytes]]) -> None:
        self._output.write(place[1], records)
        if self._ledger is not None:
            self._ledger.add(value for _, value in records)

    def _progress(self, events: int) -> None:
        self._done += events
        total = sum(stop - start for start, stop in self._result.stretches.values())
        self._report(min(self._done, total), total)

    # -- on the virtual clock ----------------------------------------------------------------

    def _relive(self, reader: StretchReader) -> None:
        stretches = self._result.stretches
        predictions = self._settings.topics.predictions
        answers: dict[Place, Stretch] = {}
        for place in stretches:
            lane = (predictions, place[1])
            start, stop = self._from_first(reader, place, lane)
            answers[lane] = (min(start, answers.get(lane, (start, stop))[0]), stop)
        memory = Memory()
        core = self._core(memory.recall)
        firsts = {place: start for place, (start, _) in stretches.items()}
        timeline = Timeline(core, memory, firsts, list(answers), self._wanted.tick_ms)
        both = {**stretches, **answers}
        for outputs, events in relived(
            timeline, reader, both, self._decoder, self._stop, self._facts
        ):
            self._take(outputs)
            self._progress(events)
        self._result.bad_frames += core.bad_frames

    # -- with given answers ------------------------------------------------------------------

    def _decide_again(self, reader: StretchReader) -> None:
        recollection = Recollection()
        core = self._core(recollection.recall)
        deadline_ns = self._settings.combiner.deadline_ms * NS_PER_MS
        again = Again(core, recollection, deadline_ns, self._settings.cascade.heavy)
        scorer = None
        if self._wanted.rescore:
            scorer = Scorer(self._settings, self._bundle, self._members)
        for place, (start, stop) in sorted(self._result.stretches.items()):
            for first in range(start, stop, _SEGMENT_EVENTS):
                segment = (first, min(stop, first + _SEGMENT_EVENTS))
                self._decide_segment(reader, place, segment, again, scorer)
        self._result.bad_frames += core.bad_frames

    def _decide_segment(
        self,
        reader: StretchReader,
        place: Place,
        segment: Stretch,
        again: Again,
        scorer: Scorer | None,
    ) -> None:
        first, count = segment[0], segment[1] - segment[0]
        table = AnswerTable(place, first, count, self._members)
        recorded = None
        if self._wanted.as_recorded:
            recorded = self._recorded(reader, place, segment)
        if scorer is None or any(model.external for model in self._settings.models):
            self._fill(reader, place, segment, table, recorded)
        present = None if recorded is None else recorded.present()
        for events in self._blocks(reader, place, segment):
            if scorer is not None:
                scorer.fill(table, events)
            block = block_of(self._decoder, events, wanted=self._facts)
            frames = table.frames(block.offsets, present)
            outputs, scored = again.decide(place, block, frames, recorded)
            self._count(outputs)
            self._write(place, scored)
            if recorded is not None:
                self._note(block, recorded, table)
            self._progress(len(events))
        self._result.bad_frames["unusable"] += table.unusable

    def _note(self, block: EventBlock, recorded: Recorded, table: AnswerTable) -> None:
        """What could not be found of what was there then."""
        good = np.ones(len(block), dtype=np.bool_)
        good[list(block.bad)] = False
        rows = block.offsets[good] - recorded.first
        self._result.without_record += int(np.count_nonzero(~recorded.known[rows]))
        offsets = block.offsets[good][recorded.known[rows]]
        lacking = table.lacking(offsets, recorded.present())
        for member, missing in zip(self._members, lacking.tolist(), strict=True):
            if missing:
                self._result.not_found[member.name] += missing

    def _blocks(self, reader: StretchReader, place: Place, segment: Stretch) -> Iterator[Columns]:
        """The events of a segment, in blocks that do not depend on how they were fetched."""
        waiting: list[Message] = []
        for messages in self._read(reader, {place: segment}):
            waiting += messages
            while len(waiting) >= _BLOCK_EVENTS:
                yield from columns_of(waiting[:_BLOCK_EVENTS])
                del waiting[:_BLOCK_EVENTS]
        if waiting:
            yield from columns_of(waiting)

    def _recorded(self, reader: StretchReader, place: Place, segment: Stretch) -> Recorded:
        """What was published of a segment's events."""
        first, count = segment[0], segment[1] - segment[0]
        reserves = np.array([member.reserve for member in self._members], dtype=np.bool_)
        names = [member.name for member in self._members]
        recorded = Recorded(first, count, ~reserves, names)
        source = f'"source":"{place[0]}/{place[1]}/'.encode()
        scored = (self._settings.topics.scored, place[1])
        stretch = self._from_first(reader, place, scored, first)
        for message in chain.from_iterable(self._read(reader, {scored: stretch})):
            value = message.value() or b""
            if source not in value:
                continue
            record = _scored(value)
            offset = -1 if record is None else int(record.source.rpartition("/")[2])
            if record is not None and segment[0] <= offset < segment[1]:
                recorded.add(offset, record)
        return recorded

    def _fill(
        self,
        reader: StretchReader,
        place: Place,
        segment: Stretch,
        table: AnswerTable,
        recorded: Recorded | None,
    ) -> None:
        """Recorded answers to a segment's events."""
        lane = (self._settings.topics.predictions, place[1])
        stretch = self._from_first(reader, place, lane, segment[0])
        wanted = None if recorded is None else recorded.present() & recorded.known[:, None]
        for messages in self._read(reader, {lane: stretch}):
            for message in messages:
                for frame in frames_in(message.value()):
                    table.add(place[1], frame)
            if wanted is not None and not (wanted & ~table.answered).any():
                break

    # -- what was published ------------------------------------------------------------------

    def _compared(self, reader: StretchReader, ledger: Ledger) -> Agreement:
        scored: dict[Place, Stretch] = {}
        for place in self._result.stretches:
            lane = (self._settings.topics.scored, place[1])
            start, stop = self._from_first(reader, place, lane)
            scored[lane] = (min(start, scored.get(lane, (start, stop))[0]), stop)
        for messages in self._read(reader, scored):
            ledger.compare(message.value() or b"" for message in messages)
            if ledger.complete:
                break
        return ledger.finish()

    # -- reading -----------------------------------------------------------------------------

    def _read(
        self, reader: StretchReader, stretches: Mapping[Place, Stretch]
    ) -> Iterator[list[Message]]:
        return reader.read(stretches, self._stop)

    def _from_first(
        self, reader: StretchReader, place: Place, lane: Place, first: int | None = None
    ) -> Stretch:
        """Of another topic, what can belong to the events of a stretch from `first` on."""
        low, high = reader.held(lane)
        start, stop = self._result.stretches[place]
        first = start if first is None else first
        if first == reader.held(place)[0]:
            return low, high
        message = next(chain.from_iterable(self._read(reader, {place: (first, stop)})), None)
        if message is None:
            return low, high
        return reader.at_time(lane, message.timestamp()[1] - _SLACK_MS), high


def _scored(value: bytes) -> ScoredRecord | None:
    try:
        return _decode_scored(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
