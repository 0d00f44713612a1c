"""How many events a second are decided again, on one core, from the bytes of their records.

    python benchmarks/past.py [--seconds 20] [--smoke]

Each case is a recorded stretch: four partitions, three models, a number of features, so many
events a second for so many seconds; workers answered in frames of what came within 4 ms. `clock`
is `ensemble replay`, where recorded answers are joined along the virtual clock; `recorded` is
`--as-recorded`, where it is known who had answered. Decoding events and frames, the join, the
decision, encoding and hashing of the scores are in it; fetching from Kafka is not.

The slower the recorded stream, the fewer events share a tick of the clock (10 ms), so the fewer
are decided a second; the last column says how many times faster than live that is.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from combiner.assembly import combiner_of
from combiner.intake import Member
from combiner.window import block_of
from registry.manifest import DataFingerprint, Manifest, Stacking, StackingFit
from replay.again import Again, Recollection
from replay.recorded import Recorded
from replay.relive import frames_in
from replay.table import AnswerTable
from replay.timeline import Answers, Memory, Timeline
from streams.columns import Columns
from streams.events import EventDecoder
from streams.features import Feature, FeatureSchema
from streams.frames import PredictionFrame, encode_frame
from streams.instants import NS_PER_MS
from streams.settings import Settings

PARTITIONS = 4
MODELS = ("a", "b", "c")
FEATURES = 20
RATES = (500, 2000, 10_000)
FRAME_MS = 4
START_MS = 1_700_000_000_000
TICK_MS = 10
CHUNK = 2000


@dataclass(slots=True)
class Stretch:
    """The records of one partition: events, and frames with their timestamps."""

    partition: int
    values: list[bytes]
    times: np.ndarray
    frames: list[bytes]
    frame_times: np.ndarray


def schema() -> FeatureSchema:
    """Numbers only."""
    return FeatureSchema(tuple(Feature(f"f{i}") for i in range(FEATURES)))


def manifest() -> Manifest:
    """A bundle's manifest without models: all of them are somebody else's."""
    return Manifest(
        schema(), (), {}, Stacking((), {"": StackingFit(0.0, ())}, (), ()), {}, (), {},
        DataFingerprint("0" * 64, 0, "y", 0.25), {},
    )  # fmt: skip


def settings() -> Settings:
    """Three models, weighted."""
    models = [{"name": name, "external": True, "version": "1"} for name in MODELS]
    return Settings.model_validate(
        {"models": models, "event": {"id": "id"}, "combiner": {"strategy": "weighted_mean"}}
    )


def recorded_stretch(partition: int, rate: float, seconds: float) -> Stretch:
    """What producers and workers wrote into one partition."""
    count = max(1, int(rate * seconds / PARTITIONS))
    random = np.random.default_rng(partition)
    times = START_MS + np.sort(random.integers(0, int(seconds * 1000), count))
    cells = random.random((count, FEATURES)).round(6)
    values = [
        json.dumps({"id": f"e{i}"} | {f"f{j}": x for j, x in enumerate(row)}).encode()
        for i, row in enumerate(cells.tolist())
    ]
    frames: list[bytes] = []
    frame_times: list[int] = []
    for slot in np.unique(times // FRAME_MS).tolist():
        offsets = np.flatnonzero(times // FRAME_MS == slot)
        for model in MODELS:
            scores = random.random(len(offsets))
            frame = PredictionFrame(model, "1", "events", partition, offsets, scores)
            frames.append(encode_frame(frame))
            frame_times.append((slot + 2) * FRAME_MS)
    return Stretch(partition, values, times, frames, np.array(frame_times))


def chunks(stretch: Stretch) -> Iterator[Columns]:
    """The events as they are fetched."""
    for start in range(0, len(stretch.values), CHUNK):
        part = slice(start, start + CHUNK)
        values: list[bytes | None] = list(stretch.values[part])
        offsets = np.arange(start, start + len(values))
        place = ("events", stretch.partition)
        nothing: list[bytes | None] = [None] * len(values)
        yield Columns(place, offsets, stretch.times[part], nothing, values, [])


def on_the_clock(stretches: list[Stretch]) -> tuple[int, str]:
    """Scores, and the hash of all of them."""
    memory, decoder, digest, scored = Memory(), EventDecoder(schema(), ("id",)), hashlib.sha256(), 0
    core = combiner_of(settings(), manifest(), "e@1", memory.recall, 0)
    places = [stretch.partition for stretch in stretches]
    timeline = Timeline(
        core, memory, {("events", p): 0 for p in places}, [("predictions", p) for p in places],
        TICK_MS,
    )  # fmt: skip
    for stretch in stretches:
        events = timeline.events["events", stretch.partition]
        for columns in chunks(stretch):
            events.put(columns.timestamps_ms, block_of(decoder, columns))
        events.end()
        answers = timeline.answers["predictions", stretch.partition]
        frames = [frames_in(value) for value in stretch.frames]
        answers.put(stretch.frame_times, Answers(np.arange(len(frames)), frames))
        answers.end()
    for output in timeline.play():
        scored += len(output.scored)
        digest.update(b"\n".join(value for _, value in output.scored))
    return scored, digest.hexdigest()


def as_recorded(stretches: list[Stretch]) -> tuple[int, str]:
    """The same, with everybody there."""
    recollection, decoder = Recollection(), EventDecoder(schema(), ("id",))
    digest, scored = hashlib.sha256(), 0
    core = combiner_of(settings(), manifest(), "e@1", recollection.recall, 0)
    again = Again(core, recollection, settings().combiner.deadline_ms * NS_PER_MS)
    members = [Member(name, "1", 0.0, 1.0, reserve=False) for name in MODELS]
    for stretch in stretches:
        place, count = ("events", stretch.partition), len(stretch.values)
        table = AnswerTable(place, 0, count, members)
        for value in stretch.frames:
            for frame in frames_in(value):
                table.add(stretch.partition, frame)
        recorded = Recorded(0, count, np.ones(len(MODELS), dtype=np.bool_), MODELS)
        for columns in chunks(stretch):
            block = block_of(decoder, columns)
            frames = table.frames(block.offsets, recorded.present())
            _, records = again.decide(place, block, frames, recorded)
            scored += len(records)
            digest.update(b"\n".join(value for _, value in records))
    return scored, digest.hexdigest()


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of the recorded stream")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    given = parser.parse_args()
    seconds = 0.2 if given.smoke else given.seconds
    print("recorded/s  way         events   events/s   times live")
    for rate in RATES:
        stretches = [recorded_stretch(p, rate, seconds) for p in range(PARTITIONS)]
        for name, way in (("clock", on_the_clock), ("recorded", as_recorded)):
            began = time.process_time()
            scored, digest = way(stretches)
            took = time.process_time() - began
            assert scored == sum(len(stretch.values) for stretch in stretches)
            assert digest == way(stretches)[1] or given.smoke is False
            print(
                f"{rate:>10,}  {name:<10} {scored:>7,} {scored / took:>10,.0f} "
                f"{scored / took / rate:>12,.0f}"
            )


if __name__ == "__main__":
    main()
