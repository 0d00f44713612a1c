"""One event explained from what a real broker holds."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from registry.bundle import load_manifest
from replay.explaining import explained
from streams.embedded import EmbeddedKafka
from streams.errors import DataError
from streams.frames import PredictionFrame, Timing
from streams.settings import Settings
from tests.combiner.live_kit import Live
from tests.conftest import Topics

MODELS = ["a", "b", "c", "d"]


@pytest.fixture
def live(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Iterator[Live]:
    live = Live(kafka.bootstrap_servers, topics, tmp_path)
    yield live
    live.close()


def say(live: Live, model: str, scores: list[float], **more: object) -> None:
    live.send_frame(
        PredictionFrame(
            *(model, "1", live.events, 1, np.arange(len(scores)), np.array(scores)),
            **{"timing": Timing(0.5, 0.25), **more},
        )
    )
    live.flush()


@pytest.fixture
def told(live: Live) -> Settings:
    """Two events of partition 1: of the second `a` and `b` speak, `c` refuses and `d` is late."""
    settings = live.settings(MODELS, combiner={"deadline_ms": 400})
    live.start(settings).await_said("owns")
    reader = live.reader()
    live.send({"id": "first", "x": 1.0}, 1)
    live.send({"id": "second", "x": 1.0}, 1, key=b"k")
    live.flush()
    say(live, "a", [0.5, 0.9])
    say(live, "c", [0.5, np.nan], refusals={1: "no idea"})
    say(live, "b", [0.5, 0.3])
    live.await_outcomes(reader)
    say(live, "d", [0.5, 0.1])
    return settings


def test_an_event_is_found_and_decided_again(live: Live, told: Settings) -> None:
    stop, bundle = threading.Event(), load_manifest(live.bundle)
    by_id = explained(told, bundle, "second", stop)
    assert explained(told, bundle, f"{live.events}/1/1", stop) == by_id
    facts = json.loads(json.dumps(by_id.facts()))
    assert facts["same"]
    assert facts["published"]["score"] == pytest.approx(0.6)
    rows = {row["model"]: row for row in facts["models"]}
    assert list(rows) == MODELS
    assert (rows["a"]["said"], rows["a"]["contribution"], rows["a"]["without"]) == (0.9, 0.45, 0.3)
    assert rows["a"]["remark"] == "decisive: without it the label would be another"
    assert (rows["b"]["said"], rows["b"]["without"], rows["b"]["remark"]) == (0.3, 0.9, "")
    assert rows["c"]["refusal"] == "no idea"
    assert (rows["d"]["said"], rows["d"]["remark"]) == (0.1, "late")
    assert rows["d"]["sent_after_ms"] >= 400
    told_of = facts["again"]["explanation"]
    assert told_of["agreement"] == 0.5
    assert told_of["dispersion"] == pytest.approx(0.3)
    assert not told_of.get("consensus")
    latency = facts["latency"]
    assert (latency["model"], latency["kept"]) == ("b", False)
    assert latency["queue_ms"] <= 0.5
    stages = [value for name, value in latency.items() if name.endswith("_ms")]
    assert sum(stages) == pytest.approx(facts["published"]["latency_ms"], abs=0.01)


def test_the_command_shows_it(live: Live, told: Settings, monkeypatch) -> None:
    found = told.model_copy(
        update={"ensemble": told.ensemble.model_copy(update={"bundle": str(live.bundle)})}
    )
    monkeypatch.setattr("cli.configuration.load_settings", lambda _: found)
    monkeypatch.setenv("COLUMNS", "160")
    shown = CliRunner().invoke(app, ["explain", "second"], catch_exceptions=False).stdout
    assert f"{live.events}/1/1, id second: score 0.6, label 1" in shown
    assert "they disagree on the label" in shown
    assert "no idea" in shown
    assert "waiting last for b" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert lines["a"][1:5] == ["0.9000", "0.9000", "0.4500", "0.3000"]
    answer = CliRunner().invoke(app, ["explain", "second", "--json"], catch_exceptions=False)
    assert json.loads(answer.stdout)["same"]


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ("nobody", "no score of an event with the id 'nobody'"),
        ("{events}/1/99", "no such event; there are 0 to 2"),
        ("{events}/77/0", "has no partition 77"),
    ],
)
def test_what_is_not_there_is_said(live: Live, told: Settings, event: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        explained(
            told, load_manifest(live.bundle), event.format(events=live.events), threading.Event()
        )
