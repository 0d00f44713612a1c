"""The example of a foreign worker: run as it is, it is a member of an ensemble."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.plan import PARTITIONS
from chaos.reader import TIMEOUT_S
from chaos.verdict import Verdict
from streams.embedded import EmbeddedKafka
from streams.settings import Settings
from tests.combiner.live_kit import ROOT, Live, answer_of, settings_json
from tests.conftest import Topics

PROGRAM = ROOT / "examples" / "foreign_worker" / "rules.py"
MONTHS_BEHIND = (-2, 0, 1, 2, 8)
# What the rule says of each.
RULE = (0.02, 0.15, 0.4, 0.65, 0.9)


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


@contextmanager
def foreign_worker(live: Live) -> Iterator[None]:
    """The program, which ends by itself when it is asked to."""
    command = [sys.executable, str(PROGRAM), live.servers, live.events, live.predictions]
    with subprocess.Popen(command, cwd=live.directory) as process:
        try:
            yield
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()


def ensemble_of_both(live: Live) -> Settings:
    """A model and the rule, which counts three times as much."""
    patient = live.settings(["a", "rules"], combiner={"deadline_ms": 20_000})
    data = json.loads(settings_json(patient))
    data["models"][1]["weight"] = 3.0
    return Settings.model_validate(data)


def test_it_answers_and_refuses_as_a_member(live: Live) -> None:
    reader = live.reader()
    live.models("a")
    live.start(ensemble_of_both(live))
    with foreign_worker(live):
        for number in range(200):
            months = MONTHS_BEHIND[number % len(MONTHS_BEHIND)]
            event = {"id": f"e{number}", "x": 1, "PAY_0": months}
            live.send(event, number % PARTITIONS, key=b"k%d" % number)
        live.send({"id": "unknown", "x": 1, "PAY_0": None})
        live.await_outcomes(reader)
    assert live.verdicts(reader) == (Verdict(), Verdict())
    for found in reader.outcomes:
        offset = int(found.source.rpartition("/")[2])
        answer = answer_of("a", offset)
        if found.id == "unknown":
            assert found.record["score"] == pytest.approx(answer)
            assert found.record["missing"] == {
                "rules": "refused: PAY_0 is missing or no number",
            }
            assert found.record["fallback"] == "partial"
        else:
            rule = RULE[int(found.id.removeprefix("e")) % len(RULE)]
            assert found.record["score"] == pytest.approx((answer + 3 * rule) / 4)
            assert found.record["models"] == ["a", "rules"]
            assert found.record["fallback"] == "none"
