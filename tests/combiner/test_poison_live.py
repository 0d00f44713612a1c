"""What anybody may write to the inputs and to `predictions`: the right outcome, nothing lost."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import msgspec
import numpy as np
import pytest
from confluent_kafka import Message

from chaos.reader import TIMEOUT_S, headers_of, wait_for
from chaos.verdict import Outcome, Verdict
from streams.embedded import EmbeddedKafka
from streams.frames import PredictionFrame
from streams.records import Headers
from tests.combiner.live_kit import Live, Process, answer_of
from tests.conftest import Topics

TEN_YEARS_MS = 10 * 365 * 86_400_000
NOW_MS = 1_700_000_000_000


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def message_of(found: Outcome) -> "Message[bytes, bytes]":
    assert isinstance(found.message, Message)
    return found.message


def metrics_of(process: Process) -> str:
    process.await_said("metrics on")
    url = re.findall(r"metrics on (\S+)", process.said())[-1]
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        page: str = answer.read().decode()
    return page


# -- inputs ----------------------------------------------------------------------------------

MANY_HEADERS = [(f"h{number}", b"v") for number in range(10_000)]
LARGE = b'{"id": "large", "x": 1, "padding": "%s"}' % (b"p" * 900_000)
BROKEN = b'{"id": "large", "x": 1, "padding": "%s' % (b"p" * 900_000)

# Name, value, key, headers, and the kind of dead letter; an empty one is scored.
ODD: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]], str]] = [
    ("unknown schema id", b'\x00\x00\x00\x00\x2a{"id": "p", "x": 1}', b"k", [], "NotJson"),
    ("an Avro body", b"\x00\x00\x00\x00\x07\x02\x70\x00\x40", b"k", [], "NotJson"),
    ("a large event", LARGE, b"k", [], ""),
    ("a large broken event", BROKEN, b"k", [], "NotJson"),
    ("10,000 headers", b'{"id": "p", "x": 1}', b"k", MANY_HEADERS, ""),
    ("10,000 headers on a bad one", b"{", b"k", MANY_HEADERS, "NotJson"),
    ("no key", b'{"id": "p", "x": 1}', None, [], ""),
    ("an empty key", b'{"id": "p", "x": 1}', b"", [], ""),
    ("a key that is no text", b'{"id": "p", "x": 1}', b"\xff\xfe\x00", [], ""),
    ("a long key", b'{"id": "p", "x": 1}', b"k" * 65_536, [], ""),
    ("a key too long", b'{"id": "p", "x": 1}', b"k" * 65_537, [], "KeyTooLong"),
    ("the same id", b'{"id": "before-0", "x": 1}', b"k", [], ""),
    ("a field twice", b'{"id": "q", "x": "1", "id": "p", "x": 1}', b"k", [], "WrongType"),
    ("a good field twice", b'{"id": "q", "x": 2, "id": "p", "x": 1}', b"k", [], ""),
    ("long names", b'{"id": "p", "x": 1, "%s": 1}' % (b"n" * 500_000), b"k", [], ""),
    ("many names", json.dumps({"id": "p", "x": 1} | {f"n{n}": n for n in range(20_000)}).encode(),
     b"k", [], ""),
    ("a number as text", b'{"id": "p", "x": "1.5"}', b"k", [], "WrongType"),
    ("a number as id", b'{"id": 17, "x": 1}', b"k", [], ""),
    ("deep in what nobody reads", b'{"id": "p", "x": 1, "y": %s1%s}' % (b"[" * 900, b"]" * 900),
     b"k", [], ""),
    ("too deep", b'{"id": "p", "x": 1, "y": %s' % (b'{"a":' * 100_000), b"k", [], "NotJson"),
    ("2^63", b'{"id": "p", "x": 9223372036854775808}', b"k", [], ""),
    ("2^64", b'{"id": "p", "x": 18446744073709551616}', b"k", [], ""),
    ("a small number", b'{"id": "p", "x": 1e-400}', b"k", [], ""),
    ("an unknown category", b'{"id": "p", "x": 1, "note": "never seen"}', b"k", [], ""),
    ("in ten years", b'{"id": "p", "x": 1, "at": %d}' % (NOW_MS + TEN_YEARS_MS), b"k", [], ""),
    ("ten years ago", b'{"id": "p", "x": 1, "at": %d}' % (NOW_MS - TEN_YEARS_MS), b"k", [], ""),
    ("before the calendar", b'{"id": "p", "x": 1, "at": -99999999999999999}', b"k", [], "BadTime"),
    ("no time", b'{"id": "p", "x": 1, "at": "noon"}', b"k", [], "BadTime"),
]  # fmt: skip


def test_odd_events_have_the_outcome_that_is_promised(live: Live) -> None:
    reader = live.reader()
    live.models("a", "b")
    # So patient that no busy machine makes fallbacks.
    patient = {"delivery": "exactly_once", "deadline_ms": 5000}
    process = live.start(live.settings(combiner=patient, event={"time": "at"}))
    for number, (_, value, key, headers, _) in enumerate(ODD):
        live.send({"id": f"before-{number}", "x": 1})
        live.send(value, key=key, headers=headers)
    live.send({"id": "last", "x": 1})
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (Verdict(), Verdict())
    by_offset = {int(found.source.rpartition("/")[2]): found for found in reader.outcomes}
    for number, (name, value, key, headers, kind) in enumerate(ODD):
        found = by_offset[2 * number + 1]
        message = message_of(found)
        assert message.key() == key, name
        if not kind:
            assert found.record, (name, headers_of(message)[-3:])
            assert found.record["fallback"] == "none", name
            continue
        assert not found.record, name
        assert message.value() == value, name
        assert dict(headers_of(message))[Headers.CLASS] == kind, name
        assert len(headers_of(message)) == len(headers) + 7, name
    records = {ODD[(offset - 1) // 2][0]: f.record for offset, f in by_offset.items() if offset % 2}
    assert records["in ten years"]["event_time"].startswith("2033-11-1")
    assert records["ten years ago"]["event_time"].startswith("2013-11-1")
    assert records["a number as id"]["id"] == "17"
    assert records["a good field twice"]["id"] == "p"
    assert process.stop() == 0


# -- predictions -----------------------------------------------------------------------------


def json_frame(**change: object) -> bytes:
    frame = {"model": "a", "version": "1", "topic": "T", "partition": 0, "offsets": [0]}
    return json.dumps({**frame, "scores": [0.9], **change}).encode()


def binary(**change: object) -> list[object]:
    """The elements of a binary frame for the first event."""
    offsets, scores = np.array([0], "<i8").tobytes(), np.array([0.9], "<f8").tobytes()
    fields: dict[str, object] = {
        "format": 1, "model": "a", "version": "1", "topic": "T", "partition": 0,
        "offsets": offsets, "scores": scores, "columns": 1, "refusals": {}, "timing": [0.0, 0.0],
    }  # fmt: skip
    return list((fields | change).values())


def packed(**change: object) -> bytes:
    return msgspec.msgpack.encode(binary(**change))


FAR = np.array([2**63 - 1], "<i8").tobytes()
# All are about the first event and say 0.9; reason as in `ensemble_bad_frames_total`.
BAD_FRAMES: list[tuple[str, bytes | None, str]] = [
    ("tombstone", None, "no frame"),
    ("empty", b"", "no frame"),
    ("blank", b"  ", "no frame"),
    ("truncated binary", packed()[:-20], "no frame"),
    ("one byte", b"\x9a", "no frame"),
    ("too short an array", msgspec.msgpack.encode(binary()[:9]), "no frame"),
    ("a map", msgspec.msgpack.encode({"model": "a"}), "no frame"),
    ("another format", packed(format=2), "no frame"),
    ("half a number", packed(offsets=b"\0" * 7), "no frame"),
    ("counts differ", packed(scores=b"\0" * 16), "no frame"),
    ("no events", packed(offsets=b"", scores=b""), "no frame"),
    ("columns do not fit", packed(columns=3), "no frame"),
    ("no columns", packed(columns=0), "no frame"),
    ("negative columns", packed(columns=-1), "no frame"),
    ("huge columns", packed(columns=2**62), "no frame"),
    ("negative offset", packed(offsets=np.array([-1], "<i8").tobytes()), "no frame"),
    ("the largest offset", packed(offsets=FAR), "no such event"),
    ("refusal outside", packed(refusals={7: "no"}), "no frame"),
    ("negative refusal", packed(refusals={-1: "no"}), "no frame"),
    ("text for scores", packed(scores="0.9"), "no frame"),
    ("several columns", packed(columns=2, scores=b"\0" * 16), "several columns"),
    ("partition is no integer", packed(partition="0"), "no frame"),
    ("another partition", packed(partition=3), "wrong partition"),
    ("a negative partition", packed(partition=-1), "wrong partition"),
    ("a stranger", packed(model="stranger"), "unknown model"),
    ("nobody", packed(model=""), "unknown model"),
    ("another version", packed(version="2"), "other version"),
    ("no UTF-8", packed(model="a").replace(b"\xa1a", b"\xa1\xff", 1), "no frame"),
    ("1 MB of zeros", bytes(900_000), "no frame"),
    ("1 MB of rubbish", bytes(range(1, 256)) * 3500, "no frame"),
    ("JSON cut", json_frame()[:-3], "no frame"),
    ("JSON with text scores", json_frame(scores=["0.9"]), "no frame"),
    ("JSON with true", json_frame(scores=[True]), "no frame"),
    ("JSON with NaN", json_frame().replace(b"0.9", b"NaN"), "no frame"),
    ("JSON with 2^63", json_frame(offsets=[2**63]), "no frame"),
    ("JSON with 2^64", json_frame(offsets=[2**64]), "no frame"),
    ("JSON with a negative offset", json_frame(offsets=[-5]), "no frame"),
    ("JSON with half an offset", json_frame(offsets=[0.5]), "no frame"),
    ("JSON counts differ", json_frame(offsets=[0, 1]), "no frame"),
    ("JSON nested", json_frame(scores=[[[0.9]]]), "no frame"),
    ("JSON ragged", json_frame(scores=[[0.1], [0.2, 0.3]], offsets=[0, 1]), "no frame"),
    ("JSON two columns", json_frame(scores=[[0.1, 0.9]]), "several columns"),
    ("JSON without a model", json_frame(model=None), "no frame"),
    ("JSON too deep", b'{"model": "a", "x": ' + b"[" * 100_000, "no frame"),
    ("JSON of 20,001 events", json_frame(offsets=list(range(20_001)), scores=[0.9] * 20_001),
     "no frame"),
    ("an array", b"[1, 2]", "no frame"),
]  # fmt: skip


def test_bad_frames_are_counted_and_change_nothing(live: Live) -> None:
    reader = live.reader()
    process = live.start(
        live.settings(combiner={"delivery": "exactly_once", "deadline_ms": 20_000})
    )
    process.await_said("owns [(")
    topic = live.events.encode()
    for _, value, _ in BAD_FRAMES:
        # The name of the topic is as long as its length says.
        told = value and value.replace(b"\xa1T", b"\xd9%c" % len(topic) + topic, 1)
        live.send_answer(told and told.replace(b'"T"', b'"%s"' % topic), 0)
    # What is a frame holds, be it as odd as it may: NaN is a refusal, infinity is none.
    nan, infinite = np.array([np.nan]), np.array([np.inf])
    for model, scores in (("a", nan), ("b", infinite)):
        for partition in (1, 2):
            frame = PredictionFrame(model, "1", live.events, partition, np.array([0]), scores)
            live.send_frame(frame)
    live.flush()
    live.models("a", "b")
    for number in range(8):
        live.send({"id": f"e{number}", "x": 1}, number % 4)
    live.await_outcomes(reader)
    assert live.verdicts(reader) == (Verdict(), Verdict())
    for found in reader.outcomes:
        partition, offset = (int(part) for part in found.source.split("/")[1:])
        record = found.record
        if offset == 0 and partition in {1, 2}:
            assert record["missing"] == {
                "a": "refused: no reason given", "b": "refused: inf outside [0.0, 1.0]",
            }  # fmt: skip
            continue
        expected = sum(answer_of(model, offset) for model in "ab") / 2
        assert record["score"] == pytest.approx(expected), found.source
        assert record["missing"] == {}
    counted = Counter(reason for _, _, reason in BAD_FRAMES)
    lines = [
        f'ensemble_bad_frames_total{{reason="{reason}"}} {count}.0'
        for reason, count in counted.items()
    ]
    # They are told once a second.
    wait_for(
        lambda: set(lines) <= set(metrics_of(process).splitlines()),
        lambda: "\n".join(line for line in metrics_of(process).splitlines() if "bad_fr" in line),
    )
    assert process.stop() == 0


def test_the_frames_of_this_page_are_frames_but_for_their_fault() -> None:
    """So that each is left out for its own fault and not for one that all share."""
    from streams.frames import decode_frames, encode_frames

    for value in (packed(), json_frame()):
        (frame,) = decode_frames(value)
        assert frame.scores.tolist() == [0.9]
    assert encode_frames(decode_frames(packed())) == packed()
