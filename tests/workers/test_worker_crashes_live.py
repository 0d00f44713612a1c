"""Models that end their process: found out, refused where they must be, and left out at last.

A supervisor starts the worker again, as `ensemble up` does.
"""

import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from chaos.models_bad import POISON
from cli.restarts import NS_PER_S, RestartPolicy
from cli.supervisor import ChildStatus, Program, Supervisor
from streams.embedded import EmbeddedKafka
from streams.errors import RecycleError
from tests.conftest import Topics
from tests.workers.worker_kit import ROOT, Live
from workers.marks import blamed, place_of

CRASHED = "crashed its process"
IMPATIENT = RestartPolicy(first_delay_ns=NS_PER_S // 20, longest_delay_ns=NS_PER_S // 10)


class Supervised(Live):
    """A worker that is started again."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.ended: list[int | None] = []
        self.supervisor = Supervisor([], IMPATIENT, on_change=self._changed)
        self.supervisor.__enter__()

    def _changed(self, _name: str, status: ChildStatus) -> None:
        if status.state == "waiting":
            self.ended.append(status.exit_code)

    def supervise(self, models: list[str], **tuning: int) -> None:
        settings = self.settings(models, **tuning)
        code = (
            "import sys; from tests.workers.worker_kit import main; sys.exit(main(*sys.argv[1:]))"
        )
        program = Program(
            "w",
            [sys.executable, "-c", code, settings.model_dump_json(), "0"],
            environment={"PYTHONPATH": str(ROOT), "GATE": str(self.gate)},
            log_path=self.directory / "worker.log",
            excuse=partial(blamed, place_of(settings, "w", "0")),
        )
        self.supervisor.add(program)

    def close(self) -> None:
        self.supervisor.close()
        super().close()

    def log(self) -> str:
        return (self.directory / "worker.log").read_text()

    def said(self, model: str) -> list[float | str]:
        """The last word on each event, in the order of writing."""
        answers = self.answers(model)
        return [answers[event][-1] for event in self.written]


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Supervised]:
    live = Supervised(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


BAD = "chaos.models_bad:"


@pytest.mark.parametrize(
    "models",
    [
        ["crashes_on_poison", "leaves_on_poison"],
        ["hangs_on_poison", "holds_on_poison"],
    ],
)
def test_a_poisoned_event_costs_two_deaths_and_not_the_model(
    live: Supervised, models: list[str]
) -> None:
    xs = [0.25, POISON, 0.75, 0.125, 0.5, 0.25]
    live.write(xs)
    live.supervise(["honest", *(BAD + model for model in models)], hang_ms=600)
    live.read_answers(["honest", *models], len(xs))
    expected = [CRASHED if x == POISON else x for x in xs]
    assert {model: live.said(model) for model in models} == dict.fromkeys(models, expected)
    assert live.said("honest") == xs
    deaths = len(live.ended)
    # The first death may be that of both of them, and each one takes another.
    assert len(models) < deaths <= 2 * len(models)
    assert set(live.ended) <= {-signal.SIGSEGV, 5, 75, 1}
    # The same row is known by its content, wherever it comes again.
    live.write([POISON, 0.5])
    live.read_answers(models, len(xs) + 2)
    for model in models:
        assert live.said(model)[-2:] == [CRASHED, 0.5]
        assert f"the process ended while {model} was scoring" in live.log()
    assert len(live.ended) == deaths
    live.read_until(lambda: live.committed() == [4, 4])


def test_a_model_that_always_crashes_is_left_out_until_somebody_asks(live: Supervised) -> None:
    model = "crashes_at_loading"
    live.write([0.25] * 4)
    live.supervise(["honest", BAD + model])
    live.read_answers(["honest", model], 4)
    assert live.said(model) == ["quarantined"] * 4
    assert live.said("honest") == [0.25] * 4
    assert live.ended == [-signal.SIGSEGV] * 5
    assert f"model {model} is quarantined" in live.log()
    live.control(model, paused=False)
    live.read_until(lambda: len(live.ended) > 6)
    assert live.ended[5:7] == [RecycleError.exit_code, -signal.SIGSEGV]


def test_a_process_that_is_killed_from_outside_blames_nobody(live: Supervised) -> None:
    live.write([0.25] * 10)
    live.supervise(["honest", "gated"])
    live.read_answers(["honest"], 10)
    for killed in range(1, 3):
        live.supervisor.kill("w")
        live.read_until(
            lambda killed=killed: min(map(len, live.answers("honest").values())) > killed
        )
    live.gate.touch()
    live.read_answers(["gated"], 10)
    assert set(live.said("gated")) == {0.25}
    assert "while" not in live.log()


def test_memory_that_leaks_is_given_back_by_a_fresh_start(live: Supervised) -> None:
    live.write([0.25] * 200_000)
    live.supervise(["honest", BAD + "leaks"], max_memory_mb=300)
    live.read_answers(["honest", "leaks"], 200_000)
    assert set(live.ended) == {RecycleError.exit_code}
    assert "of 300 MB of memory are in use" in live.log()
    assert {len(said) for said in live.answers("leaks").values()} == {1}, "nothing was read again"


def test_a_model_that_wants_all_memory_gets_an_error_for_it(live: Supervised) -> None:
    live.write([0.25, POISON, 0.5, 0.75])
    live.supervise(["honest", BAD + "hoards_on_poison"], max_address_space_mb=2000, hang_ms=60_000)
    live.read_answers(["honest", "hoards_on_poison"], 4)
    said = live.said("hoards_on_poison")
    assert said[0::2] == [0.25, 0.5]
    assert "raised" in said[1]
    assert "MemoryError" in said[1]
    assert live.ended == []


MISBEHAVING = {
    "exits": "raised SystemExit: 3",
    "interrupts": "raised KeyboardInterrupt",
    "unfriendly": "raised _UnspeakableError: without a text",
    "objects": "raised _UnspeakableError: without a text",
    "huge": "returned what are no numbers",
    "complex_numbers": "returned complex128 instead of numbers",
    "writes": "raised ValueError: assignment destination is read-only",
    "alias": 0.25,
    "reuses": 0.25,
    "scribbles": 0.25,
    "spawns": 0.25,
    "chats": 0.25,
}


def test_models_that_misbehave_spoil_neither_process_nor_each_other(live: Supervised) -> None:
    live.write([0.25] * 4)
    live.supervise([*(BAD + name for name in MISBEHAVING), "honest"])
    live.read_answers([*MISBEHAVING, "honest"], 4)
    assert {name: set(live.said(name)) for name in MISBEHAVING} == {
        name: {said} for name, said in MISBEHAVING.items()
    }
    assert live.said("honest") == [0.25] * 4
    live.supervisor.stop("w")
    assert live.supervisor.states()["w"].exit_code == 0, "threads left behind keep nobody"
