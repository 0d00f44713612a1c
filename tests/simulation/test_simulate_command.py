"""`ensemble simulate`: what it prints, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from simulation import checkers
from tests.cli.cli_kit import ensemble


def test_it_says_what_was_exercised() -> None:
    result = CliRunner().invoke(app, ["simulate", "--seeds", "5", "--start", "3"])
    assert result.exit_code == 0, result.output
    assert "rung: none" in result.stdout
    assert "5 runs in" in result.stdout


def test_programs_get_json() -> None:
    result = CliRunner().invoke(app, ["simulate", "--seed", "7", "--json"])
    found = json.loads(result.stdout)
    assert found["seeds"] == 1
    assert found["counts"]["events"] > 0


@pytest.mark.parametrize("what", [["--seeds", "20"], ["--schedules", "3000"]])
def test_it_comes_to_the_same_in_several_processes(what: list[str]) -> None:
    alone, shared = (
        CliRunner().invoke(app, ["simulate", *what, "--start", "3", "--json", "--jobs", jobs])
        for jobs in ("1", "2")
    )
    assert alone.exit_code == shared.exit_code == 0, shared.output
    assert json.loads(alone.stdout)["counts"] == json.loads(shared.stdout)["counts"]


def test_nothing_of_several_processes_is_left_behind() -> None:
    done = ensemble("simulate", "--schedules", "3000", "--jobs", "2")
    assert (done.returncode, done.stderr) == (0, ""), "Python tells of what it had to clear away"


def test_a_failing_seed_is_printed_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong_at_five(run) -> list[str]:
        return ["once: two of them"] * 30 if run.plan.seed == 5 else []

    monkeypatch.setattr(checkers, "violations", wrong_at_five)
    result = CliRunner().invoke(app, ["simulate", "--seeds", "5", "--start", "3"])
    assert result.exit_code == 1
    assert "seed 5 breaks a promise:\n  once: two of them\n" in result.stderr
    assert "… and 10 more" in result.stderr
    assert "again: ensemble simulate --seed 5\n" in result.stderr
