"""Benchmarks that nobody runs rot: each runs at toy size with every test run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120
# What needs a broker or a Redis is measured by hand, but for the whole pipeline.
NEEDS_SERVER = re.compile(
    r"^\s*(from|import) (confluent_kafka|redis|streams\.(embedded|source|sink|admin|app))",
    re.MULTILINE,
)

WHOLE = "pipeline.py"  # has a test of its own


def runnable() -> list[str]:
    sources = {path.name: path.read_text() for path in (ROOT / "benchmarks").glob("*.py")}
    return sorted(
        name
        for name, source in sources.items()
        if "--smoke" in source and not NEEDS_SERVER.search(source) and name != WHOLE
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


def test_the_whole_pipeline_runs_at_toy_size() -> None:
    """With a broker, a trained ensemble and processes of its own."""
    told = printed("-m", "benchmarks.pipeline")
    assert "exactly_once: backlog" in told
    assert "100/s  p50" in told
    assert "0 lost, 0 repeated" in told
