"""The checker can fail: each thing that may be wrong with a set of outcomes is found."""

from dataclasses import replace

import pytest

from chaos.load import Acknowledged
from chaos.verdict import DEAD, Outcome, Verdict, judge, longest_gap_s, rungs, timing

CLEAN = Verdict()
S = 1_000_000_000


def outcome(offset: int, score: float = 0.5, partition: int = 0, read_s: float = 0) -> Outcome:
    place = ("scored", partition, 0)
    source = f"e/{partition}/{offset}"
    return Outcome(source, f"id{offset}", f"{score}", place, "none", int(read_s * S))


def sources(*offsets: int, partition: int = 0) -> set[str]:
    return {f"e/{partition}/{offset}" for offset in offsets}


class TestChecker:
    def test_one_outcome_each_is_clean(self) -> None:
        outcomes = [outcome(0), outcome(0, partition=1), outcome(1), outcome(3)]
        assert judge(sources(0, 1, 3) | sources(0, partition=1), outcomes) == CLEAN

    def test_an_event_without_outcome_is_lost(self) -> None:
        assert judge(sources(0, 1, 2), [outcome(0), outcome(2)]) == Verdict(lost=["e/0/1"])

    def test_the_same_outcome_again_is_a_duplicate_each_time(self) -> None:
        found = judge(sources(0), [outcome(0), outcome(0), outcome(0)])
        assert found == Verdict(duplicates=["e/0/0", "e/0/0"])

    def test_another_outcome_of_the_same_event_contradicts(self) -> None:
        found = judge(sources(0), [outcome(0, 0.5), outcome(0, 0.6)])
        assert found == Verdict(contradictory=["e/0/0"])

    def test_an_outcome_of_no_event_is_strange(self) -> None:
        assert judge(sources(0), [outcome(0), outcome(1)]) == Verdict(strange=["e/0/1"])

    def test_an_outcome_behind_a_later_one_is_disordered(self) -> None:
        found = judge(sources(0, 1, 2), [outcome(0), outcome(2), outcome(1)])
        assert found == Verdict(disordered=["e/0/1"])

    def test_all_at_once(self) -> None:
        found = [outcome(0), outcome(3), outcome(2), outcome(0), outcome(2, 0.9), outcome(9)]
        verdict = judge(sources(0, 1, 2, 3), found)
        assert verdict == Verdict(["e/0/1"], ["e/0/0"], ["e/0/2"], ["e/0/9"], ["e/0/2"])
        assert not verdict.clean
        assert str(verdict) == "1 lost, 1 duplicates, 1 contradictory, 1 strange, 1 disordered"


class TestGap:
    @pytest.mark.parametrize(
        ("sent_s", "read_s", "gap_s"),
        [
            ([], [], 0),
            ([], [1.0], 0),
            ([0, 10], [], 10),
            ([0, 10], [1, 2, 9, 10.5], 7),
            # Before the first event, and behind the outcome that follows the last one.
            ([5, 10], [0, 6, 9, 11, 99], 3),
            # The last outcome came before the last event was sent.
            ([0, 10], [1, 4], 6),
            ([0, 10], [10.0], 10),
        ],
    )
    def test_between_outcomes_while_events_were_sent(
        self, sent_s: list[float], read_s: list[float], gap_s: float
    ) -> None:
        sent, read = ([int(at * S) for at in each] for each in (sent_s, read_s))
        assert longest_gap_s(sent, read) == pytest.approx(gap_s)

    def test_a_partition_may_stand_still_while_another_flows(self) -> None:
        sent = {f"e/{p}/{n}": n * S for p in (0, 1) for n in range(10)}
        read = [outcome(n, 0.5, 0, n + 0.1) for n in range(10)]
        read += [outcome(n, 0.5, 1, max(n, 6) + 0.1) for n in range(10)]
        found = timing(sent, sorted(read, key=lambda each: each.read_ns), 1000)
        assert found.gap_s == pytest.approx(1.0)
        assert found.partition_gap_s == pytest.approx(6.1)


def test_latencies_are_of_first_outcomes_and_known_events() -> None:
    sent = {"e/0/0": 0, "e/0/1": S}
    read = [outcome(0, read_s=0.5), outcome(7, read_s=0.6), outcome(1, read_s=1.1)]
    read.append(outcome(0, read_s=50))
    found = timing(sent, read, limit_ms=200)
    assert (found.p50_ms, found.max_ms, found.late) == (pytest.approx(300), 500, 1)


def test_without_outcomes_there_is_only_a_gap() -> None:
    found = timing({"e/0/0": 0, "e/0/1": 3 * S}, [], limit_ms=200)
    assert (found.p99_ms, found.late, found.gap_s, found.partition_gap_s) == (0, 0, 3, 3)


def test_rungs_are_counted_and_dead_letters_apart() -> None:
    read = [outcome(0), outcome(1), replace(outcome(2), rung=DEAD)]
    assert rungs(read) == {"none": 2, DEAD: 1}


class TestWhatTheTopicHolds:
    def test_an_event_whose_offset_nobody_told_is_found_by_its_name(self) -> None:
        acknowledged = Acknowledged()
        acknowledged.unplaced = {"e7": 70, "e8": 80}
        acknowledged.place({"e/0/0": "e7"})
        assert acknowledged.sent_ns == {"e/0/0": 70}
        assert (acknowledged.vanished, acknowledged.copies) == (["e8"], set())

    def test_what_was_written_twice_is_two_events(self) -> None:
        acknowledged = Acknowledged()
        acknowledged.sent_ns = {"e/0/2": 70}
        acknowledged.place({"e/0/0": "e7", "e/0/1": "e8", "e/0/2": "e7"})
        assert acknowledged.copies == {"e/0/0", "e/0/1"}
        assert acknowledged.events == {"e/0/0", "e/0/1", "e/0/2"}
        verdict = judge(acknowledged.events, [outcome(0), outcome(2)])
        assert verdict == Verdict(lost=["e/0/1"])

    def test_what_was_sent_without_an_answer_counts_if_it_arrived(self) -> None:
        acknowledged = Acknowledged()
        acknowledged.doubtful = {"e7": 70, "e8": 80}
        acknowledged.place({"e/0/0": "e7"})
        assert acknowledged.sent_ns == {"e/0/0": 70}
        assert not acknowledged.vanished
        assert not acknowledged.copies
