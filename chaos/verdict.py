"""What is wrong with a set of outcomes, and how long they took: counting only.

Nothing here reads a clock or a broker: outcomes come with the time at which they were read.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NS_PER_MS = 1_000_000
DEAD = "dead letter"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scored record or a dead letter.

    Attributes:
        source: `topic/partition/offset` of the event.
        id: of the event; of a dead letter its key, as no id may have been found.
        content: everything that must not differ between two outcomes of one event.
        place: the topic and partition it was found in, and its offset there.
        rung: the fallback of a score, or `DEAD`.
        read_ns: when it was read, by the reader's monotonic clock.
        message: as it came, where the reader was asked to keep it.
        record: the JSON object, likewise; empty in a dead letter.
    """

    source: str
    id: str
    content: str
    place: tuple[str, int, int]
    rung: str = ""
    read_ns: int = 0
    message: Any = None
    record: dict[str, Any] = field(default_factory=dict)


@dataclass
class Verdict:
    """What is wrong with a set of outcomes; names are the events'.

    Attributes:
        lost: without an outcome.
        duplicates: one more outcome of the same content, each time.
        contradictory: outcomes of different content.
        strange: outcomes of events that were not expected.
        disordered: first outcomes behind that of a later event of the same partition.
    """

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return self == Verdict()

    def __str__(self) -> str:
        return ", ".join(f"{len(found)} {name}" for name, found in vars(self).items())


def judge(expected: Collection[str], outcomes: Iterable[Outcome]) -> Verdict:
    """Count the outcomes of events by their source.

    Args:
        expected: events that the broker acknowledged.
        outcomes: in the order of their partitions.
    """
    verdict = Verdict()
    contents: dict[str, set[str]] = {}
    newest: dict[tuple[str, int, str], int] = {}
    for outcome in outcomes:
        source = outcome.source
        before = contents.setdefault(source, set())
        if before:
            known = outcome.content in before
            (verdict.duplicates if known else verdict.contradictory).append(source)
        else:
            if source not in expected:
                verdict.strange.append(source)
            where, _, offset = source.rpartition("/")
            lane = (*outcome.place[:2], where)
            if int(offset) < newest.setdefault(lane, int(offset)):
                verdict.disordered.append(source)
            newest[lane] = max(newest[lane], int(offset))
        before.add(outcome.content)
    verdict.lost = sorted(set(expected) - contents.keys())
    return verdict


@dataclass(frozen=True, slots=True)
class Timing:
    """How long outcomes took, from the call that sent an event to the read of its outcome.

    Attributes:
        p50_ms, p99_ms, max_ms: of the latencies; 0 without outcomes.
        late: outcomes that took longer than the limit.
        gap_s: the longest time without any outcome while events were sent.
        partition_gap_s: the same within one partition, the worst of all.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    late: int
    gap_s: float
    partition_gap_s: float


def timing(sent_ns: Mapping[str, int], outcomes: Sequence[Outcome], limit_ms: float) -> Timing:
    """The timing of first outcomes.

    Args:
        sent_ns: event → when it was sent, by the clock of `Outcome.read_ns`.
        outcomes: in the order in which they were read.
        limit_ms: what takes longer is late.
    """
    latencies = latencies_ms(sent_ns, outcomes)
    p50, p99 = np.percentile(latencies, (50, 99)) if latencies.size else (0.0, 0.0)
    return Timing(
        float(p50),
        float(p99),
        float(latencies.max(initial=0)),
        int((latencies > limit_ms).sum()),
        longest_gap_s(sent_ns.values(), [outcome.read_ns for outcome in outcomes]),
        _partition_gap_s(sent_ns, outcomes),
    )


def latencies_ms(sent_ns: Mapping[str, int], outcomes: Iterable[Outcome]) -> NDArray[np.float64]:
    """Milliseconds from sending to the first reading, of each event that was sent."""
    first: dict[str, int] = {}
    for outcome in outcomes:
        first.setdefault(outcome.source, outcome.read_ns)
    waited = [read - sent_ns[source] for source, read in first.items() if source in sent_ns]
    return np.array(waited, dtype=np.float64) / NS_PER_MS


def _partition_gap_s(sent_ns: Mapping[str, int], outcomes: Iterable[Outcome]) -> float:
    sent: dict[str, list[int]] = {}
    read: dict[str, list[int]] = {}
    for source, at_ns in sent_ns.items():
        sent.setdefault(source.rpartition("/")[0], []).append(at_ns)
    for outcome in outcomes:
        read.setdefault(outcome.source.rpartition("/")[0], []).append(outcome.read_ns)
    return max((longest_gap_s(at, read.get(where, [])) for where, at in sent.items()), default=0.0)


def longest_gap_s(sent_ns: Iterable[int], read_ns: Iterable[int]) -> float:
    """The longest time without an outcome while events were sent, in seconds.

    Counted from the first event on: each outcome ends a gap, and the gap that contains the last
    event ends with the outcome after it. Without any, everything is one gap. What was read before
    the first event does not count.
    """
    sent = sorted(sent_ns)
    if not sent:
        return 0.0
    first, last = sent[0], sent[-1]
    read = sorted(read_ns)
    behind = bisect_left(read, last)
    ends = [at for at in read[: behind + 1] if at > first]
    if behind == len(read):
        ends.append(last)
    marks = np.array([first, *ends], dtype=np.int64)
    return float(np.diff(marks).max(initial=0)) / 1e9


def rungs(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How many outcomes came by each rung; dead letters count as `DEAD`."""
    return Counter(outcome.rung for outcome in outcomes)
