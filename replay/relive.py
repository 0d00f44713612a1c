"""Leads recorded events and answers, as they are fetched, along the virtual clock."""

import threading
from collections.abc import Iterator, Mapping

from combiner.facts import FactsWanted
from combiner.output import Output
from combiner.window import EventBlock, block_of
from replay.timeline import Answers, Lane, Timeline
from streams.columns import Columns, columns_of
from streams.events import EventDecoder
from streams.frames import FrameError, PredictionFrame, decode_frames
from streams.stretches import Place, Stretch, StretchReader

# Records of a lane that wait for the other lanes; beyond the first nothing more is fetched.
_MANY_WAITING, _FEW_WAITING = 50_000, 10_000


def relived(
    timeline: Timeline,
    reader: StretchReader,
    stretches: Mapping[Place, Stretch],
    decoder: EventDecoder,
    stop: threading.Event,
    wanted: FactsWanted | None = None,
) -> Iterator[tuple[list[Output], int]]:
    """What is decided, as it is decided, and how many events were read for it.

    Args:
        timeline: with a lane for each stretch.
        reader: reads them.
        stretches: of inputs and predictions.
        decoder: from records to events.
        stop: when set, what was read by then is decided, and no more.
        wanted: which facts of events are looked at.

    Raises:
        BrokerError: the broker refuses or does not answer.
    """
    held: set[Place] = set()
    for messages in reader.read(stretches, stop):
        events = 0
        for columns in columns_of(messages):
            events += _feed(timeline, columns, decoder, wanted)
        for place, lane in _lanes(timeline):
            if reader.ended(place):
                lane.end()
        yield timeline.play(), events
        if timeline.settled:
            break  # later answers change nothing
        _balance(timeline, reader, held)
    for rest in timeline.lanes:
        rest.end()
    yield timeline.play(), 0


def _feed(
    timeline: Timeline, columns: Columns, decoder: EventDecoder, wanted: FactsWanted | None
) -> int:
    """Put records into their lane; how many of them are events."""
    if columns.place in timeline.events:
        block = block_of(decoder, columns, wanted=wanted)
        timeline.events[columns.place].put(columns.timestamps_ms, block)
        return len(columns)
    frames = [frames_in(value) for value in columns.values]
    lane = timeline.answers[columns.place]
    lane.put(columns.timestamps_ms, Answers(columns.offsets, frames))
    return 0


def _lanes(timeline: Timeline) -> list[tuple[Place, Lane[EventBlock] | Lane[Answers]]]:
    return [*timeline.events.items(), *timeline.answers.items()]


def _balance(timeline: Timeline, reader: StretchReader, held: set[Place]) -> None:
    """Lanes in which much waits for the others are not read on."""
    slowest_ms = min(lane.known_until_ms for lane in timeline.lanes)
    for place, lane in _lanes(timeline):
        waiting = len(lane)
        if place not in held and waiting > _MANY_WAITING and lane.known_until_ms > slowest_ms:
            held.add(place)
            reader.hold([place], held=True)
        elif place in held and (waiting < _FEW_WAITING or lane.known_until_ms <= slowest_ms):
            held.discard(place)
            reader.hold([place], held=False)


def frames_in(value: bytes | None) -> list[PredictionFrame]:
    """The frames of a record; none for what is no frame."""
    try:
        return decode_frames(value)
    except FrameError:
        return []
