"""Outcomes as witnesses against a committed position."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner.ahead import NONE, Runs, runs_of
from combiner.traces import Trace, newest_beyond, trace_of
from streams.events import BadEvent
from streams.records import Headers, dead_letter_headers

PLACE = ("events", 3)


@dataclass
class Record:
    """A record as far as it is looked at."""

    content: bytes | None
    added: list[tuple[str, bytes]] | None = None

    def value(self) -> bytes | None:
        return self.content

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self.added


def scored(ensemble: str = "fraud@7", source: str = "events/3/41") -> Record:
    content = {"id": "e41", "source": source, "ensemble": ensemble, "score": 0.25}
    return Record(json.dumps(content).encode())


def dead(*more: tuple[str, bytes], ensemble: str = "fraud@7") -> Record:
    headers = dead_letter_headers([("own", b"x")], *PLACE, 42, BadEvent(0, "NoId", "…"), ensemble)
    return Record(b'{"x": 1}', [(name, value or b"") for name, value in headers] + list(more))


def test_what_a_record_shows() -> None:
    assert trace_of(scored(), "fraud") == Trace(PLACE, 41, "e41")
    assert trace_of(dead(), "fraud") == Trace(PLACE, 42, b'{"x": 1}')
    cut = dead((Headers.ORIGINAL_BYTES, b"9999"))
    assert trace_of(cut, "fraud") == Trace(PLACE, 42, b'{"x": 1}', cut=True)


@pytest.mark.parametrize(
    "record",
    [
        scored("fraud-next@7"),
        dead(ensemble="other@7"),
        scored(source="events/3"),
        scored(source="events/x/41"),
        scored(source=""),
        Record(b"{"),
        Record(b"[]"),
        Record(b'{"id": 1}'),
        Record(None),
    ],
)
def test_other_ensembles_and_rubbish_show_nothing(record: Record) -> None:
    assert trace_of(record, "fraud") is None


def runs(*offsets: int) -> Runs:
    return runs_of(np.ones(len(offsets), dtype=np.bool_), np.array(offsets)) if offsets else NONE


@given(
    start=st.integers(0, 30),
    known=st.lists(st.integers(0, 40), unique=True).map(sorted),
    seen=st.lists(st.integers(0, 40)),
)
def test_the_newest_that_a_position_does_not_know_of(
    start: int, known: list[int], seen: list[int]
) -> None:
    ahead = [offset for offset in known if offset >= start]
    marked = np.isin(np.arange(42), ahead)
    found = newest_beyond(
        start, runs_of(marked, np.arange(42)), [Trace(PLACE, offset, "") for offset in seen]
    )
    unknown = [offset for offset in seen if offset >= start and offset not in ahead]
    assert (found.offset if found else None) == max(unknown, default=None)
