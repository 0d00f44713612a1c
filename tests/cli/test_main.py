"""The front door itself: help, version, errors as one line, logs, requests to stop."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from cli import logs
from cli.configuration import load_settings
from cli.init import template
from cli.stopping import stop_event
from cli.up import broker_program, programs_of
from registry.bundle import LoadedBundle
from streams.errors import ConfigurationError
from streams.settings import Settings
from tests.cli.cli_kit import ensemble

# Reading help is the first thing anybody does; three tenths of a second feel like at once.
HELP_BUDGET_S = 0.3
HEAVY = {"pandas", "pyarrow", "sklearn", "xgboost", "lightgbm", "confluent_kafka", "faust", "numpy"}


class TestHelp:
    def test_it_loads_nothing_heavy(self) -> None:
        code = "import sys, cli.main; print(*sorted(set(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        loaded = set(done.stdout.split())
        assert not loaded & HEAVY
        assert "pydantic" not in loaded

    def test_it_takes_little_processor_time(self) -> None:
        def once() -> float:
            before = os.times()
            assert ensemble("--help").returncode == 0
            after = os.times()
            return (
                after.children_user + after.children_system
                - before.children_user - before.children_system
            )  # fmt: skip

        assert min(once() for _ in range(3)) < HELP_BUDGET_S

    def test_the_version_is_the_distributions(self) -> None:
        done = ensemble("--version")
        assert done.stdout == f"stream-ensemble {version('stream-ensemble')}\n"


class TestErrors:
    def test_every_mistake_is_a_line_and_the_code_says_whose(self, tmp_path: Path) -> None:
        path = tmp_path / "ensemble.toml"
        path.write_text("[combiner]\ndeadline_ms = 'fast'\nexplain = 1\n[[models]]\nname = 'a'\n")
        done = ensemble("topics", "list", "-c", path)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            (
                f'error: {path}: combiner.deadline_ms: got "fast", '
                "expected a whole number greater than 0"
            ),
            f"error: {path}: combiner.explain: got 1, expected true or false",
        ]

    @pytest.mark.parametrize("role", [["worker", "a"], ["combiner"]])
    def test_a_role_needs_a_slot(self, role: list[str]) -> None:
        done = ensemble(*role)
        assert done.returncode == 2
        assert "Missing option '--slot'" in done.stderr

    def test_a_wrong_level_of_logs(self, tmp_path: Path) -> None:
        path = tmp_path / "ensemble.toml"
        path.write_text(template())
        done = ensemble("monitor", "-c", path, environment={"ENSEMBLE_LOG": "loud"})
        assert done.returncode == 2
        assert done.stderr == (
            'error: environment: ENSEMBLE_LOG: got "loud", '
            "expected one of debug, info, warning, error\n"
        )


class TestInit:
    def test_it_fills_in_the_models_of_a_bundle(self, tmp_path: Path, bundle: LoadedBundle) -> None:
        path = tmp_path / "a" / "ensemble.toml"
        done = ensemble("init", path, "--bundle", bundle.directory, "--id", 'meta."id"')
        assert done.stdout == f"{path}: written; `ensemble check` says what is still to do\n"
        settings = load_settings(path, {})
        assert [m.name for m in settings.models] == [m.name for m in bundle.manifest.models]
        assert settings.ensemble.bundle == str(bundle.directory.resolve())
        assert settings.event.id == 'meta."id"'

    def test_it_never_overwrites(self, tmp_path: Path) -> None:
        path = tmp_path / "ensemble.toml"
        path.write_text("mine")
        done = ensemble("init", path)
        assert done.returncode == 2
        assert done.stderr == f"error: {path}: exists already; expected a name that is free\n"
        assert path.read_text() == "mine"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)


def settings_with(tmp_path: Path, **environment: str) -> Settings:
    path = tmp_path / "ensemble.toml"
    path.write_text(template())
    return load_settings(path, environment)


class TestLogs:
    def test_no_secret_passes_whatever_it_is_in(
        self, tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        settings = settings_with(
            tmp_path,
            ENSEMBLE__CACHE__URL="redis://app:open-sesame@cache:6379/0",
            ENSEMBLE__KAFKA__PROPERTIES__SASL_PASSWORD="pa55word",
        )
        logs.configure("worker-a", settings)
        log = logging.getLogger("anything")
        log.warning("cannot reach %s", "redis://app:open-sesame@cache:6379/0")
        log.warning("refused pa55word", extra={"detail": "open-sesame"})
        try:
            int("pa55word")
        except ValueError:
            log.exception("failed with sasl.password=other7")
        text = stream.getvalue()
        for secret in ("open-sesame", "pa55word", "other7"):
            assert secret not in text
        first, second, third = map(json.loads, text.splitlines())
        assert first["event"] == "cannot reach redis://app:***@cache:6379/0"
        assert first["process"] == "worker-a"
        assert first["level"] == "warning"
        assert first["logger"] == "anything"
        assert second["detail"] == "***"
        assert third["exception"].endswith("with base 10: '***'")

    def test_people_get_a_line_with_the_process(
        self, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("combiner-0")
        logging.getLogger("x").info("owns %d partitions", 4)
        assert "combiner-0: owns 4 partitions" in stream.getvalue()

    @pytest.mark.parametrize("client", ["streams.kafka", "aiokafka.client"])
    def test_what_the_client_repeats_is_said_once(
        self, client: str, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("x")
        for number in range(100):
            logging.getLogger(client).warning("refused after %d ms", number)
            logging.getLogger("workers").warning("mine")
        assert stream.getvalue().count("refused") == 1
        assert stream.getvalue().count("mine") == 100

    def test_the_level_is_from_the_environment(
        self, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("ENSEMBLE_LOG", "error")
        logs.configure("x")
        logging.getLogger("x").warning("not seen")
        assert stream.getvalue() == ""


class TestStopping:
    def test_the_first_request_sets_the_event_and_a_repeat_does_no_harm(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with stop_event() as stop:
            assert not stop.is_set()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert stop.is_set()
        assert signal.getsignal(signal.SIGTERM) == before

    def test_a_later_request_ends_the_process(self) -> None:
        code = """
import signal, cli.stopping
cli.stopping._SAME_REQUEST_S = 0
with cli.stopping.stop_event() as stop:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    print("still here")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert done.returncode == -signal.SIGINT
        assert done.stdout == b""


class TestPrograms:
    TWO_WORKERS = """
[[models]]
name = "a"
[[models]]
name = "b"
[[workers]]
name = "first"
models = ["a"]
processes = 2
[[workers]]
name = "second"
models = ["b"]
[combiner]
processes = 2
"""

    def settings(self, tmp_path: Path, **environment: str) -> tuple[Settings, Path]:
        path = tmp_path / "ensemble.toml"
        path.write_text(self.TWO_WORKERS)
        return load_settings(path, environment), path

    def test_each_process_has_its_slot_and_its_port(self, tmp_path: Path) -> None:
        found = {p.name: p.command[4:] for p in programs_of(*self.settings(tmp_path))}
        place = ["--config", str(tmp_path / "ensemble.toml"), "--metrics-port"]
        assert found == {
            "worker-first-0": ["worker", "first", "--slot", "0", *place, "9101"],
            "worker-first-1": ["worker", "first", "--slot", "1", *place, "9102"],
            "worker-second-0": ["worker", "second", "--slot", "0", *place, "9103"],
            "combiner-0": ["combiner", "--slot", "0", *place, "9201"],
            "combiner-1": ["combiner", "--slot", "1", *place, "9202"],
            "monitor": ["monitor", *place, "9301"],
        }

    def test_port_zero_stays_zero(self, tmp_path: Path) -> None:
        settings, path = self.settings(tmp_path, ENSEMBLE__METRICS__WORKER_PORT="0")
        ports = [p.command[-1] for p in programs_of(settings, path) if "worker" in p.name]
        assert ports == ["0", "0", "0"]

    def test_the_broker_listens_where_the_configuration_looks(self, tmp_path: Path) -> None:
        settings, _ = self.settings(
            tmp_path,
            ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS="localhost:19092",
            ENSEMBLE__CACHE__URL="redis://127.0.0.1:16379/0",
        )
        program = broker_program(settings, tmp_path)
        assert program.command[4:] == [
            *("broker", "--directory", str(tmp_path), "--port", "19092", "--redis-port", "16379"),
        ]
        assert program.tier == 0

    def test_without_a_redis_of_this_machine_none_is_started(self, tmp_path: Path) -> None:
        settings, _ = self.settings(tmp_path)
        assert broker_program(settings, tmp_path).command[-1] == "--no-redis"

    def test_a_broker_elsewhere_is_not_embedded(self, tmp_path: Path) -> None:
        settings, _ = self.settings(tmp_path, ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS="kafka:9092")
        with pytest.raises(ConfigurationError) as caught:
            broker_program(settings, tmp_path)
        assert str(caught.value) == (
            'kafka.bootstrap_servers: got "kafka:9092", '
            "expected 127.0.0.1:PORT for an embedded broker"
        )


class TestTrain:
    def test_it_writes_a_bundle_and_shows_metrics(self, data_file: Path, tmp_path: Path) -> None:
        out = tmp_path / "bundle"
        arguments = ("train", data_file, "--label", "label", "--id", "id", "--out", out)
        few = ("--members", "logistic_regression", "--folds", "2")
        done = ensemble(*arguments, *few)
        assert done.returncode == 0, done.stderr
        assert "ensemble: stacking" in done.stdout
        assert "auc" in done.stdout
        assert (out / "manifest.json").exists()
        again = ensemble(*arguments, *few, "--json", "--replace")
        found = json.loads(again.stdout)
        assert found["training_rows"] + found["holdout_rows"] == 400
        assert f"version {found['version']}" in done.stdout, "the same data give the same bundle"
        kept = ensemble(*arguments, *few, "--keep")
        assert kept.stdout == f"{out}: version {found['version']} is there already\n"
        assert ensemble(*arguments, *few).returncode == 3

    def test_a_wrong_column_is_one_line(self, data_file: Path, tmp_path: Path) -> None:
        done = ensemble("train", data_file, "--label", "lable", "--out", tmp_path / "b")
        assert done.returncode == 4
        assert done.stderr.splitlines()[-1].startswith(f"error: {data_file}: no column 'lable'")
