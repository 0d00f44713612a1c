"""Settled rows and blocks as words: A answered, R refused, a dot is waiting, a dash not asked."""

from collections.abc import Mapping, Sequence

import numpy as np

from cache.latest import LatestScore
from combiner.calibration import Calibrator
from combiner.decision import Decider, DecisionConfig
from combiner.fallback import Ladder
from combiner.settled import ANSWERED, NOT_ASKED, REFUSED, WAITING, Settled
from combiner.strategies.protocol import Strategy
from combiner.strategies.weighted_mean import WeightedMean
from combiner.window import BadRecord, EventBlock
from registry.manifest import Calibration
from streams.events import BadEvent
from streams.instants import WallMs
from streams.records import Fallback

NOW_MS = WallMs(1_700_000_000_000)
FIRST_OFFSET = 40
STATES = {"A": ANSWERED, "R": REFUSED, ".": WAITING, "-": NOT_ASKED}


def settled(
    *rows: tuple[str, Sequence[float]],
    bad: Sequence[int] = (),
    reasons: Mapping[tuple[int, int], str] | None = None,
    hurried: Sequence[int] = (),
) -> Settled:
    """Each row: states as letters, and scores; what is not answered gets a misleading score."""
    states = np.array([[STATES[letter] for letter in word] for word, _ in rows], dtype=np.uint8)
    scores = np.array([list(given) for _, given in rows], dtype=np.float64)
    scores[states != ANSWERED] = -1e300
    scoreable = np.ones(len(rows), dtype=np.bool_)
    scoreable[list(bad)] = False
    left_early = np.zeros(len(rows), dtype=np.bool_)
    left_early[list(hurried)] = True
    return Settled(
        np.arange(len(rows)),
        np.arange(FIRST_OFFSET, FIRST_OFFSET + len(rows)),
        scores[:, :, None],
        states,
        np.zeros(len(rows), dtype=np.int64),
        scoreable,
        dict(reasons or {}),
        left_early,
    )


def bad_record(place: int, value: bytes = b"?") -> BadRecord:
    return BadRecord(b"k", value, (("trace", b"1"),), BadEvent(place, "NotJson", "it is not"))


def block(
    count: int,
    *,
    first: int = FIRST_OFFSET,
    bad: Sequence[int] = (),
    keys: Sequence[bytes | None] | None = None,
) -> EventBlock:
    """Events `e<offset>` of entities `entity<offset>`, each 50 ms old."""
    offsets = np.arange(first, first + count)
    times = np.full(count, NOW_MS - 50)
    return EventBlock(
        offsets,
        ["" if place in bad else f"e{first + place}" for place in range(count)],
        list(keys) if keys is not None else [f"k{offset}".encode() for offset in offsets.tolist()],
        ["" if place in bad else f"entity{first + place}" for place in range(count)],
        times,
        times,
        {place: bad_record(place) for place in bad},
    )


class Memory:
    """Latest scores by entity, and what was asked for."""

    def __init__(self, known: Mapping[str, LatestScore] | None = None) -> None:
        self.known = dict(known or {})
        self.asked: list[list[str]] = []

    def __call__(self, entities: Sequence[str]) -> list[LatestScore | None]:
        self.asked.append(list(entities))
        return [self.known.get(entity) for entity in entities]


def latest(score: float, label: int, age_ms: int) -> LatestScore:
    return LatestScore(
        "fraud@1", score, label, WallMs(NOW_MS - age_ms), WallMs(NOW_MS - age_ms), "old"
    )


def decider(
    weights: Sequence[float],
    *,
    reserves: Sequence[bool] | None = None,
    rungs: Sequence[Fallback] = ("partial", "reserve", "cached"),
    minimum_members: int = 1,
    strategy: Strategy | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    memory: Memory | None = None,
    prior: float = 0.1,
    threshold: float = 0.5,
    explain: bool = False,
    cascade: bool = False,
) -> Decider:
    """Models are called `a`, `b`, `c` …"""
    given = np.array(weights, dtype=np.float64)
    return Decider(
        DecisionConfig(given, (prior,), threshold, 60_000, explain, cascade=cascade),
        Ladder(
            np.array(reserves if reserves is not None else [False] * len(weights)),
            frozenset(rungs),
            minimum_members,
        ),
        Calibrator([chr(97 + i) for i in range(len(weights))], calibrations or {}),
        strategy or WeightedMean(given, threshold),
        memory or Memory(),
    )
