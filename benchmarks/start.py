"""How long a worker process takes from its start until it is ready, for each model alone.

    python -m benchmarks.start [--bundle DIR] [--repeat 3]

A real broker with an empty input; for each model of the bundle (without `--bundle` the five of the
credit example, trained first) a process of `ensemble worker` with that model alone, and one with
all of them. Ready is when its page says so: models loaded and warm, partitions assigned. The best
of the repetitions counts, as the broker shares the machine.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.pipelines.processes import is_ready
from benchmarks.worker import create_topics, train_example
from cli.configuration import load_settings
from registry.bundle import load_manifest
from streams.embedded import EmbeddedKafka
from streams.embedded.child import free_ports

LIMIT_S = 60.0
STEP_S = 0.005

Start = tuple[float, float, float]  # seconds, seconds of processor, megabytes


def write_config(directory: Path, servers: str, bundle: Path, models: list[str]) -> Path:
    """A configuration with one worker for each model, and one for all."""
    lines = ["[ensemble]", 'name = "start"', f'bundle = "{bundle.resolve()}"']
    lines += ["[kafka]", f'bootstrap_servers = "{servers}"']
    lines += ["[worker]", f'state_directory = "{directory}"']
    for model in models:
        lines += ["[[models]]", f'name = "{model}"']
    names = ", ".join(f'"{model}"' for model in models)
    lines += ["[[workers]]", 'name = "them"', f"models = [{names}]"]
    path = directory / f"{'-'.join(models)}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def measure(config: Path) -> Start:
    """Start one process, wait until it is ready, and kill it."""
    (port,) = free_ports(1)
    command = [sys.executable, "-P", "-m", "cli", "worker", "them", "--slot", "0"]
    command += ["--config", str(config), "--metrics-port", str(port)]
    began_s = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "ENSEMBLE_LOG": "warning"}
    process = psutil.Popen(command, env=environment)
    try:
        while not is_ready(port):
            if time.perf_counter() - began_s > LIMIT_S or process.poll() is not None:
                raise SystemExit("the worker does not become ready")
            time.sleep(STEP_S)
        took_s = time.perf_counter() - began_s
        times = process.cpu_times()
        return took_s, times.user + times.system, process.memory_info().rss / 1e6
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Run them all, print the figures."""
    parser = argparse.ArgumentParser(description="how long a worker process takes to be ready")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text, EmbeddedKafka(Path(text) / "kafka") as kafka:
        directory = Path(text)
        bundle = options.bundle or train_example(directory / "bundle")
        names = [model.name for model in load_manifest(bundle).manifest.models]
        create_topics(
            load_settings(write_config(directory, kafka.bootstrap_servers, bundle, names))
        )
        for models in [*([name] for name in names), names]:
            config = write_config(directory, kafka.bootstrap_servers, bundle, models)
            found = [measure(config) for _ in range(options.repeat)]
            took_s, cpu_s, rss_mb = min(found)
            print(
                f"{' '.join(models) if len(models) == 1 else 'all of them':24s} ready after "
                f"{took_s:5.2f} s, {cpu_s:5.2f} s of processor, {rss_mb:4.0f} MB"
            )


if __name__ == "__main__":
    main()
