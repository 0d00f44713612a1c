"""Everything at once, with real processes: kills of every kind, and a short storm of all faults."""

import signal
from time import monotonic

import pytest

from chaos.faults import FAULTS, POISON, is_poison, mixed_event
from chaos.goals import find_goals
from chaos.load import Event, good_event
from chaos.plan import Plan
from chaos.reader import wait_for
from chaos.stage import Stage
from chaos.storm import raise_storm, rows_of
from cli.restarts import RestartPolicy
from tests.conftest import AWAKE

KILLS = 20
# A process that does not work by then is killed at its start, which is a fault as well.
LONG_ENOUGH_S = 2.0
# Faster than processes may die in earnest.
POLICY = RestartPolicy(first_delay_ns=50_000_000, longest_delay_ns=50_000_000, crashes=1000)


def test_each_kind_of_process_killed_again_and_again_under_load() -> None:
    with Stage(Plan(broker_properties=AWAKE, combiners=2), POLICY) as stage:
        stage.await_ready()
        with stage.load(500):
            stage.await_flow()
            seen_s: dict[int | None, float] = {}
            killed: set[int | None] = {None}

            def kills(role: str) -> int:
                return sum(n.startswith(role) and code == -9 for n, code in stage.ended)

            def killed_enough() -> bool:
                """Kill whoever works again, or has had the time to, of the kinds that are due."""
                due = [role for role in ("worker", "combiner", "monitor") if kills(role) < KILLS]
                for name in (name for role in due for name in stage.names(role)):
                    pid = stage.states()[name].pid
                    age_s = monotonic() - seen_s.setdefault(pid, monotonic())
                    if pid not in killed and (age_s > LONG_ENOUGH_S or stage.ready(name)):
                        killed.add(pid)
                        stage.supervisor.kill(name, signal.SIGKILL)
                return not due

            wait_for(killed_enough, lambda: str(stage.ended), timeout_s=120)
            stage.await_flow()
        report = stage.report()
    assert report.clean, report
    assert report.events == report.scored > 0


def test_a_short_storm_of_every_kind_of_fault() -> None:
    told: list[str] = []
    storm = raise_storm(25, 5, 300, told.append)
    assert storm.survived, (storm.complaint, rows_of(storm))
    assert storm.faults.total() == len(told) >= 3
    assert set(told) <= FAULTS.keys()
    assert storm.report.scored + storm.report.dead == storm.report.events > 5000


class TestStormsCanFail:
    def test_a_stage_finds_what_is_missing_and_what_is_double(self) -> None:
        workers = {"one": ("mild", "steep", "square")}
        with Stage(Plan(broker_properties=AWAKE, redis=False, workers=workers)) as stage:
            stage.await_ready()
            with stage.load(200):
                stage.await_flow()
            stage.await_outcomes()
            stage.reader.outcomes.append(stage.reader.outcomes[0])
            topic = stage.settings.topics.inputs[0]
            stage.acknowledged.sent_ns[f"{topic}/0/999999"] = 1
            report = stage.report(wait=lambda: None)
        assert not report.clean
        assert report.during.lost == report.after.lost == [f"{topic}/0/999999"]
        assert len(report.during.duplicates) == 1
        assert report.after.duplicates == []


def test_poison_is_what_the_numbers_say() -> None:
    numbers = range(50 * len(POISON))
    events: list[Event] = [mixed_event(number) for number in numbers]
    poison = [event[0] for event, number in zip(events, numbers, strict=True) if is_poison(number)]
    assert poison == list(POISON)
    good = [(n, e[0]) for n, e in zip(numbers, events, strict=True) if not is_poison(n)]
    assert all(value == good_event(number)[0] for number, value in good)


@pytest.mark.parametrize("row", [*map(str, (1, 2, 3, 4, 8, 9, 19, 20, 21, 28)), "catch-up"])
def test_every_row_has_its_goal(row: str) -> None:
    goal = find_goals()[row]
    assert goal.number == row
    assert goal.count > 0
