"""Which model ended a process, and what its successor does about it.

Think of a fuse that blew with several lamps on. Next time the lamps that were on are tried one by
one, and whichever blows the fuse alone is the broken one.

1. A process leaves a mark of every call that is under way (`workers/marks.py`). When it dies in
   one, the rows of that call become suspects, for that model.
2. Suspects are scored one by one, and one at a time in the whole process. If it dies again, a
   single row was on trial: it is convicted, and refused from then on, by its content.
3. A death for which one model alone can be to blame counts against it. `MAX_STRIKES` of them, with
   fewer than `HEALED_ANSWERS` answers after each, and the model is quarantined: it is not even
   loaded, and its rows are refused, until somebody asks for another attempt.

So a poisoned event costs two deaths, and a broken model costs five, while the other models of the
process go on.
"""

from collections.abc import Mapping
from signal import Signals
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.batching import MicroBatch

# One poisoned event takes two; two in a row must not cost the model yet.
MAX_STRIKES = 5
# A model that answered so many since the last death is well.
HEALED_ANSWERS = 1000
# Beyond these the oldest are forgotten, and cost a death more if they come again.
MAX_SUSPECTS = 64
MAX_CONVICTS = 1000
# Signals that a process sends itself by what it does; the others come from outside.
OWN_SIGNALS = frozenset(
    {
        Signals.SIGSEGV,
        Signals.SIGABRT,
        Signals.SIGBUS,
        Signals.SIGFPE,
        Signals.SIGILL,
        Signals.SIGTRAP,
    }
)

Stage = Literal["loading", "scoring", "trial"]


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Events of one partition, from the first offset to the last one."""

    topic: str
    partition: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.first}-{self.last}"


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A call that was under way.

    Attributes:
        model: whose.
        stage: `loading` before the first event, `scoring` a batch, or a `trial` of one row.
        spans: of the events; empty while loading.
        row: of a trial, the row's hash.
    """

    model: str
    stage: Stage
    spans: tuple[Span, ...] = ()
    row: int = 0

    def __str__(self) -> str:
        if self.stage == "loading":
            return f"{self.model} was being loaded"
        return f"{self.model} was scoring {', '.join(map(str, self.spans))}"


class Past(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one model in one process.

    Attributes:
        configuration: of the model; under another one all is forgotten.
        deaths: ends of the process that it alone can be blamed for.
        strikes: those of them without enough answers in between.
        suspects: what was in a call when the process died.
        convicts: hashes of rows that are not scored any more.
        quarantined: whether the model is left out.
        heard: offset of the newest control record that was read in a former process; only a
            newer one ends a quarantine. -1 if no process ever lived to read one: then the
            first that is read counts.
    """

    configuration: str
    deaths: int = 0
    strikes: int = 0
    suspects: tuple[Span, ...] = ()
    convicts: tuple[int, ...] = ()
    quarantined: bool = False
    heard: int = -1


class Life(msgspec.Struct, frozen=True):
    """What a model did in a process that is gone.

    Attributes:
        answers: rows that it scored.
        heard: offset of the newest control record about it, -1 without any.
        call: what was under way at the end, None if nothing.
    """

    answers: int = 0
    heard: int = -1
    call: Call | None = None


def says_something(exit_code: int | None) -> bool:
    """Whether a call that was under way at such an end may have caused it.

    Not if a signal came from outside, such as SIGKILL, which is negative like all signals; None
    is an end that nobody saw.

    >>> says_something(-11), says_something(-9), says_something(75), says_something(None)
    (True, False, True, True)
    """
    return exit_code is None or exit_code >= 0 or -exit_code in OWN_SIGNALS


def culprits(calls: Mapping[str, Call]) -> list[str]:
    """The models that can be to blame for an end during these calls.

    Models are loaded one after the other and tried one at a time, so such a call is guilty, and
    others that were under way beside it are not.
    """
    alone = [model for model, call in calls.items() if call.stage != "scoring"]
    return alone or list(calls)


def judged(pasts: Mapping[str, Past], lives: Mapping[str, Life]) -> dict[str, Past]:
    """What is known after another life.

    Args:
        pasts: what was known before it.
        lives: what each model did; calls only where the end says something.
    """
    guilty = culprits({model: life.call for model, life in lives.items() if life.call is not None})
    found = {}
    for model, past in pasts.items():
        life = lives.get(model, Life())
        strikes = 0 if life.answers >= HEALED_ANSWERS else past.strikes
        heard = max(past.heard, life.heard)
        now = msgspec.structs.replace(past, strikes=strikes, heard=heard)
        if model in guilty and life.call is not None:
            now = _suspected(now, life.call)
            now = _struck(now) if len(guilty) == 1 else now
        found[model] = now
    return found


def _suspected(past: Past, call: Call) -> Past:
    if call.stage == "trial":
        convicts = (*past.convicts, call.row)[-MAX_CONVICTS:]
        return msgspec.structs.replace(past, convicts=convicts)
    if call.stage == "scoring":
        return msgspec.structs.replace(past, suspects=call.spans[-MAX_SUSPECTS:])
    return past


def _struck(past: Past) -> Past:
    strikes = past.strikes + 1
    quarantined = past.quarantined or strikes >= MAX_STRIKES
    return msgspec.structs.replace(
        past, deaths=past.deaths + 1, strikes=strikes, quarantined=quarantined
    )


def released(past: Past, heard: int) -> Past:
    """What is known of a model that a control record gives another attempt.

    Its convicts stay convicted.
    """
    return Past(past.configuration, deaths=past.deaths, convicts=past.convicts, heard=heard)


def spans_of(batch: MicroBatch) -> tuple[Span, ...]:
    """Which events a batch holds."""
    return tuple(
        Span(parts[0].topic, parts[0].partition, int(offsets[0]), int(offsets[-1]))
        for parts, _, offsets in batch.places
    )


def suspected(spans: tuple[Span, ...], batch: MicroBatch) -> NDArray[np.bool_]:
    """bool[N]: which rows of a batch lie in one of the spans."""
    found = np.zeros(len(batch), dtype=np.bool_)
    for parts, rows, offsets in batch.places:
        place = (parts[0].topic, parts[0].partition)
        for span in spans:
            if place == (span.topic, span.partition):
                found[rows[(offsets >= span.first) & (offsets <= span.last)]] = True
    return found


def one_event(batch: MicroBatch, row: int) -> Span:
    """The event in a row of a batch."""
    for parts, rows, offsets in batch.places:
        at = np.flatnonzero(rows == row)
        if len(at):
            offset = int(offsets[at[0]])
            return Span(parts[0].topic, parts[0].partition, offset, offset)
    raise AssertionError(f"no row {row} in a batch of {len(batch)}")


def row_hashes(matrix: NDArray[np.float64]) -> NDArray[np.uint64]:
    """uint64[N]: a hash of each row of float64[N, F], by its bits; the same on every machine.

    The finalizer of MurmurHash3 (Appleby) spreads the bits of each cell; a weight for each column
    makes their sum depend on where they stand.
    """
    cells = np.ascontiguousarray(matrix).view(np.uint64)
    columns = np.arange(1, matrix.shape[1] + 1, dtype=np.uint64)
    weights = _mixed(columns * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
    hashes: NDArray[np.uint64] = _mixed((_mixed(cells) * weights).sum(axis=1, dtype=np.uint64))
    return hashes


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(33))
    return mixed
