"""Benchmarks that nobody runs rot: each runs at toy size with every test run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streams.embedded import EmbeddedKafka

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120
# What needs a broker or a Redis is measured by hand, but for those below.
NEEDS_SERVER = re.compile(
    r"^\s*(from|import) (confluent_kafka|redis|streams\.(embedded|source|sink|admin|app)"
    r"|benchmarks\.pipelines)",
    re.MULTILINE,
)
# With processes of their own on the broker of the tests; what each must say.
WITH_BROKER = {
    "pipeline": (r"exactly_once: backlog", r"CPU seconds", r"100/s  p50", r"\b0 lost, 0 repeated"),
    "scale": (r"\n +5 +2 +2 +1 ",),
    "limits": (r"\nfetch +\d+\.\d\d us", r"\nmodels, of all at the limit +0\.\d\d\b"),
    "one_combiner": (r"\n +5 +100 ",),
    "endurance": (r"combiner-0 .*MB/min", r"\b0 lost, 0 repeated", r"p99\.9"),
}


def runnable() -> list[str]:
    sources = {path.name: path.read_text() for path in (ROOT / "benchmarks").glob("*.py")}
    return sorted(
        name
        for name, source in sources.items()
        if "--smoke" in source and not NEEDS_SERVER.search(source)
    )


def test_the_benchmarks_are_found() -> None:
    assert "join.py" in runnable()


def printed(*command: str) -> str:
    run = subprocess.run(
        [sys.executable, *command, "--smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", runnable())
def test_a_benchmark_runs_at_toy_size(name: str) -> None:
    assert printed(f"benchmarks/{name}").strip()


def test_the_stages_of_an_event_are_told_apart() -> None:
    said = printed("-m", "benchmarks.stages")
    for stage in ("worker: models", "combiner: join, answers", "all"):
        assert re.search(rf"^{stage} +\d+\.\d\d +\d+\.\d\d$", said, re.MULTILINE), said


@pytest.mark.parametrize("name", WITH_BROKER)
def test_a_benchmark_with_a_broker_runs_at_toy_size(name: str, kafka: EmbeddedKafka) -> None:
    told = printed("-m", f"benchmarks.{name}", "--broker", kafka.bootstrap_servers)
    for expected in WITH_BROKER[name]:
        assert re.search(expected, told), told
