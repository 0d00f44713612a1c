"""Answers of several models at once are what the same answers are one after another."""

from dataclasses import fields

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from combiner.ahead import encode
from combiner.answers import Answers, Cells
from combiner.intake import Member, plain_scores
from combiner.join import DeadlineJoin
from combiner.limits import JoinConfig
from combiner.settled import ANSWERED, Settled
from streams.frames import PredictionFrame

MEMBERS = 3
CONFIG = {"deadline_ns": 100, "stall_ns": 30, "catch_up_limit_ns": 1000}


def joins(*, in_order: bool, expected: list[bool]) -> list[DeadlineJoin]:
    config = JoinConfig(MEMBERS, **CONFIG, in_order=in_order, initial_rows=4)  # type: ignore[arg-type]
    return [DeadlineJoin(config, np.array(expected)) for _ in range(2)]


def position(join: DeadlineJoin) -> tuple[int, str] | None:
    found = join.position()
    return None if found is None else (found[0], encode(*found))


def one_by_one(
    join: DeadlineJoin, members: list[int], offsets: list[int], scores: np.ndarray, now_ns: int
) -> list[Answers]:
    places = np.array(offsets)
    return [
        join.add_answers(member, Cells(places, scores[row], 7), now_ns)
        for row, member in enumerate(members)
    ]


def assert_equal(one: Settled | None, other: Settled | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    for field in fields(Settled):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "scores":
            # Of a cell that is not answered nobody has said anything.
            mine, theirs = mine[one.states == ANSWERED], theirs[other.states == ANSWERED]
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs


EVENTS = st.tuples(st.just("events"), st.integers(1, 5), st.booleans())
ANSWERS = st.tuples(
    st.just("answers"),
    st.sets(st.integers(0, MEMBERS - 1), min_size=1),
    st.one_of(
        st.tuples(st.integers(0, 8), st.integers(1, 6)).map(lambda t: list(range(t[0], sum(t)))),
        st.lists(st.integers(0, 10), min_size=1, max_size=5, unique=True),
    ),
)
TIME = st.tuples(st.just("time"), st.integers(1, 120))


@given(
    # Events first, so that many of the answers find theirs.
    st.builds(
        lambda count, steps: [("events", count, True), *steps],
        st.integers(1, 5),
        st.lists(EVENTS | ANSWERS | ANSWERS | TIME, max_size=20),
    ),
    st.booleans(),
    st.lists(st.booleans(), min_size=MEMBERS, max_size=MEMBERS),
)
@settings(max_examples=400)
@example([("events", 3, True), ("answers", {0, 1, 2}, [0, 1, 2])], True, [True] * 3)
@example([("events", 3, True), ("answers", {1, 2}, [0, 1, 2])], True, [True, False, False])
@example(
    [("events", 5, True), ("answers", {0}, [3]), ("answers", {1, 2}, [2, 3])], False, [True] * 3
)
def test_together_is_one_by_one(steps: list[tuple], in_order: bool, expected: list[bool]) -> None:
    together, apart = joins(in_order=in_order, expected=expected)
    now_ns, read, round_ = 1000, 0, 0
    for step in steps:
        match step:
            case ("events", count, good):
                offsets, read = np.arange(read, read + count), read + count
                scoreable = np.full(count, good)
                for join in (together, apart):
                    join.add_events(offsets, scoreable, 2, now_ns)
            case ("answers", members, offsets):
                round_ += 1
                who = sorted(members)
                scores = np.random.default_rng(round_).random((len(who), len(offsets)))
                found = together.add_together(np.array(who), np.array(offsets), scores, 7, now_ns)
                each = one_by_one(apart, who, offsets, scores, now_ns)
                if found is None:
                    one_by_one(together, who, offsets, scores, now_ns)
                else:
                    assert each == [found] * len(who)
            case ("time", passed):
                now_ns += passed
        assert_equal(together.settle(now_ns), apart.settle(now_ns))
        judged, also = together.judge(now_ns), apart.judge(now_ns)
        assert (judged is None) == (also is None)
        if judged is not None and also is not None:
            for name in ("answered", "refused", "missed"):
                np.testing.assert_array_equal(getattr(judged, name), getattr(also, name))
        for name in ("pending", "early", "oldest"):
            assert getattr(together, name) == getattr(apart, name)
        assert together.next_wake_ns() == apart.next_wake_ns()
        assert together.lowest_record() == apart.lowest_record()
        assert position(together) == position(apart)


def test_the_usual_case_is_taken_together() -> None:
    together, _ = joins(in_order=True, expected=[True] * 3)
    together.add_events(np.arange(4), np.ones(4, dtype=np.bool_), 0, 10)
    found = together.add_together(np.arange(3), np.arange(4), np.ones((3, 4)), 5, 30)
    assert found == Answers(filled=4, latency_ns=80)
    settled = together.settle(30)
    assert settled is not None
    assert len(settled) == 4


def frames(*scores: list[float], refusals: dict[int, str] | None = None) -> list[PredictionFrame]:
    offsets = np.arange(len(scores[0]))
    return [
        PredictionFrame(name, "1", "e", 0, offsets, np.array(values), refusals or {})
        for name, values in zip("abc", scores, strict=False)
    ]


def members(minimum: float | None, maximum: float | None) -> list[Member]:
    return [Member(name, "1", minimum, maximum, reserve=False) for name in "abc"]


def test_only_answers_that_count_as_they_are_are_plain() -> None:
    good = frames([0.0, 1.0], [0.5, 0.5])
    found = plain_scores(good, members(0.0, 1.0)[:2])
    assert found is not None
    assert found.tolist() == [[0.0, 1.0], [0.5, 0.5]]
    for value in (np.nan, np.inf, -np.inf, 1.5, -0.1):
        assert plain_scores(frames([0.5, value], [0.5, 0.5]), members(0.0, 1.0)[:2]) is None
    assert plain_scores(frames([1e300], [-1e300]), members(None, None)[:2]) is not None
    for value in (np.nan, np.inf, -np.inf):
        assert plain_scores(frames([value], [0.0]), members(None, None)[:2]) is None
    assert plain_scores(frames([0.5], [0.5], refusals={0: "no"}), members(0.0, 1.0)[:2]) is None
    twice = [good[0], good[0]]
    assert plain_scores(twice, members(0.0, 1.0)[:2]) is None
