"""A process that stood still is told from one that was busy with something else."""

import pytest

from streams.standstill import Standstill

LONGEST_S, DOUBT_S = 6.0, 1.5


@pytest.fixture
def standstill() -> Standstill:
    """Of a process that listened for the last time at 0."""
    standstill = Standstill(LONGEST_S, DOUBT_S, now_s=0.0)
    standstill.listen(0.0)
    return standstill


def run(standstill: Standstill, from_s: int, to_s: int) -> None:
    """Run without listening."""
    for now_s in range(from_s, to_s + 1):
        standstill.run(float(now_s))


def test_one_that_runs_without_listening_is_never_in_doubt(standstill: Standstill) -> None:
    run(standstill, 0, 100)
    assert not standstill.is_in_doubt(101.0)
    standstill.listen(101.0)
    assert not standstill.is_in_doubt(101.0)


@pytest.mark.parametrize(("pause_s", "doubt"), [(LONGEST_S, False), (LONGEST_S + 0.1, True)])
def test_only_a_longer_pause_is_a_standstill(
    standstill: Standstill, pause_s: float, doubt: bool
) -> None:
    run(standstill, 0, 10)
    assert standstill.is_in_doubt(10.0 + pause_s) is doubt
    standstill.run(10.0 + pause_s)
    assert standstill.is_in_doubt(10.0 + pause_s) is doubt


def test_the_doubt_lasts_until_there_was_time_to_listen(standstill: Standstill) -> None:
    run(standstill, 20, 60)  # busy with something else since it woke
    assert standstill.is_in_doubt(60.0)
    standstill.listen(61.0)
    assert standstill.is_in_doubt(61.0 + DOUBT_S - 0.1)
    standstill.listen(61.0 + DOUBT_S)
    assert not standstill.is_in_doubt(61.0 + DOUBT_S)


def test_a_second_standstill_is_a_doubt_of_its_own(standstill: Standstill) -> None:
    standstill.listen(10.0)
    standstill.listen(20.0)
    assert standstill.is_in_doubt(20.0 + DOUBT_S - 0.1)
    standstill.listen(20.0 + DOUBT_S)
    assert not standstill.is_in_doubt(20.0 + DOUBT_S)
