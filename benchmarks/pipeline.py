"""From a record in the input topic to a score that can be read: throughput, latency, CPU, memory.

    python -m benchmarks.pipeline [--events 200000] [--rates 1000,5000,10000] [--seconds 20]
        [--deliveries exactly_once,at_least_once] [--workers 1] [--strategy weighted_mean] [--smoke]

A real broker, five models, JSON events of 30 features; broker, producer and reader share the
machine with what is measured. Throughput is from a backlog that lies there before any process
starts, between the first tenth and the last score. Latency is from the call that sends an event to
the moment its score was read, both on one clock, in a stream at a steady rate, after that backlog
and without the first five seconds of each rate.
CPU is of workers and combiner over the same part of the backlog, per event; `models alone` is that
of the same models on the same rows offline in batches of 2,000, in this same run.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.pipelines.ours import Ours
from benchmarks.pipelines.processes import Sample
from benchmarks.pipelines.rig import DISTINCT_EVENTS, TRAINING_ROWS, Arrivals, Rig, rig

OFFLINE_BATCH = 2000
US_PER_S = 1e6
# A broker that has just been started compiles what it does often.
WARM_S = 5
SMOKE_ROWS = 600


def models_alone_us(environment: Rig) -> float:
    """CPU microseconds an event costs all models offline, in batches of 2,000."""
    import json

    from registry.bundle import load_manifest
    from streams.settings import ModelSettings
    from workers.loading import load_models

    bundle = load_manifest(environment.bundle)
    models = load_models([ModelSettings(name=name) for name in environment.models], bundle)
    rows = [list(json.loads(event + b"}").values()) for event in environment.events]
    matrix = np.tile(np.array(rows), (OFFLINE_BATCH // DISTINCT_EVENTS, 1))
    for model in models:
        model.predict(matrix)
    rounds = 10
    began = time.process_time()
    for _ in range(rounds):
        for model in models:
            model.predict(matrix)
    return (time.process_time() - began) / (rounds * len(matrix)) * US_PER_S


def report_cpu(arrivals: Arrivals, samples: list[Sample], alone_us: float) -> None:
    """CPU an event cost each process, once all ran; and the models' part in it."""
    began_ns, ended_ns, count = arrivals.steady()
    times = [time_ns for time_ns, _ in samples]
    total_us = 0.0
    for name in samples[0][1]:
        used_s = [usage[name].cpu_s for _, usage in samples]
        began_s, ended_s = np.interp([began_ns, ended_ns], times, used_s)
        each_us = (ended_s - began_s) / count * US_PER_S
        total_us += each_us
        memory_mb = max(usage[name].memory_mb for _, usage in samples)
        print(f"  {name:12s} {each_us:6.1f} us CPU an event, {memory_mb:5.0f} MB")
    share = f"{alone_us / total_us:.2f} of these" if total_us else "too short to compare"
    print(f"  models alone {alone_us:6.1f} us, {share}")


def measure(environment: Rig, ours: Ours, options: argparse.Namespace, alone_us: float) -> None:
    """One delivery: backlog, then each rate."""
    config = ours.write(environment)
    environment.fill(ours.events, options.events)
    total = options.events + sum(options.rates) * options.seconds
    out = environment.directory / f"{ours.name}-arrivals.npz"
    with ours.running(environment, config) as running:
        backlog = environment.directory / f"{ours.name}-backlog.npz"
        samples = running.usage_while(environment.reader(ours.scored, options.events, backlog))
        arrivals = Arrivals.load(backlog)
        print(f"{ours.delivery}: backlog {arrivals.throughput():,.0f} events/s")
        report_cpu(arrivals, samples, alone_us)
        first = options.events
        sent = []
        reader = environment.reader(ours.scored, total, out, known=first)
        for rate in options.rates:
            path = environment.directory / f"{ours.name}-sent-{rate}.npz"
            environment.loader(ours.events, rate, options.seconds, first, path).wait()
            sent.append((rate, path))
            first += rate * options.seconds
        reader.wait()
        running.check()
        arrivals = Arrivals.load(out)
        for rate, path in sent:
            late = arrivals.latencies_ms(path)[rate * options.warm_s :]
            p50, p95, p99, p999 = np.percentile(late, [50, 95, 99, 99.9])
            print(f"  {rate:6d}/s  p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f}  "
                  f"p99.9 {p999:6.1f}  max {late.max():6.1f} ms")  # fmt: skip
        duplicates = len(arrivals.ids) - len(np.unique(arrivals.ids))
        print(f"  {total - len(np.unique(arrivals.ids))} lost, {duplicates} repeated")


def main() -> None:
    """Measure each delivery, one after another."""
    parser = argparse.ArgumentParser(description="the whole pipeline, end to end")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rates", default="1000,5000,10000")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--deliveries", default="exactly_once,at_least_once")
    parser.add_argument("--workers", type=int, default=1, help="processes the models share")
    parser.add_argument("--strategy", default="weighted_mean")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    options.warm_s, rows = WARM_S, TRAINING_ROWS
    if options.smoke:
        options.events, options.rates, options.seconds, options.warm_s = 3000, "100", 2, 1
        options.deliveries, rows = "exactly_once", SMOKE_ROWS
    options.rates = [int(rate) for rate in options.rates.split(",") if rate]
    with rig(options.bundle, long_lived=not options.smoke, training_rows=rows) as environment:
        alone_us = models_alone_us(environment)
        for delivery in options.deliveries.split(","):
            ours = Ours(delivery.replace("_", "-"), delivery, options.strategy, options.workers)
            measure(environment, ours, options, alone_us)


if __name__ == "__main__":
    main()
