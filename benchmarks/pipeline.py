"""From a record in the input topic to a score that can be read: throughput, latency, CPU, memory.

    python -m benchmarks.pipeline [--events 200000] [--rates 1000,5000,10000] [--seconds 20]
        [--deliveries exactly_once,at_least_once] [--workers 1] [--strategy weighted_mean]
        [--compiled] [--core-hour-price 0.04] [--broker SERVERS] [--smoke]

A real broker, five models, JSON events of 30 features; broker, producer and reader share the
machine with what is measured. Throughput is from a backlog that lies there before any process
starts, between the first tenth and the last score. Latency is from the call that sends an event to
the moment its score was read, both on one clock, in a stream at a steady rate, without the first
five seconds of each rate. Beside it stands how many cores were busy meanwhile, with whatever runs
on the machine: near the end of them latency is the waiting for one. A broker in service has run for
days; one that has just been started compiles what it does often, and is alone busier than a core
then, so two minutes of 5,000 events a second go first.
CPU is of workers and combiner per event of the backlog, without starting; `in the models` is that
of the calls of the models, as the workers count it; `models alone` is that of the same models on
the same rows offline in batches of 2,000, in this same run, with the machine to themselves. What a
million predictions cost is that CPU, and with a price for an hour of a core, money; broker,
producer and reader are not in it.

How fast a worker is alone says `benchmarks.worker`, a combiner alone `benchmarks.one_combiner`, and
how both grow with models, partitions and processes `benchmarks.scale`.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil

from benchmarks.pipelines.ours import Ours
from benchmarks.pipelines.processes import US_PER_S, Cost
from benchmarks.pipelines.rig import DISTINCT_EVENTS, TRAINING_ROWS, Arrivals, Rig, rig
from streams.signals import MODEL_CPU

OFFLINE_BATCH = 2000
S_PER_HOUR = 3600
# Of each rate: producers and fetches find their pace.
WARM_S = 5
# Of a broker that has just been started: as long as latencies go on falling.
WARM_RATE, WARM_BROKER_S = 5000, 120
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


def report_cpu(
    found: Mapping[str, Cost], of_models_us: Mapping[str, float], models: int, price: float | None
) -> None:
    """CPU an event cost each process, the models' part in it, and what that costs.

    `of_models_us` are microseconds of an event, `price` is that of an hour of one core.
    """
    for name, cost in found.items():
        print(f"  {name:12s} {cost.cpu_us:6.1f} us CPU an event, {cost.memory_mb:5.0f} MB")
    total_us = sum(cost.cpu_us for cost in found.values())
    for name, part_us in of_models_us.items():
        print(f"  {name:13s}{part_us:6.1f} us, {part_us / total_us:.2f} of these")
    # Microseconds for one are seconds for a million.
    million_s = total_us / models
    money = f", {million_s / S_PER_HOUR * price:.6f} at {price:g} a core-hour" if price else ""
    print(f"  a million predictions {million_s:.2f} CPU seconds{money}")


def busy_s() -> float:
    """Core-seconds that this machine has worked so far, whoever asked for them."""
    spent = psutil.cpu_times()
    return float(spent.user + spent.nice + spent.system + spent.irq + spent.softirq)


def measure(
    environment: Rig, ours: Ours, options: argparse.Namespace, alone_us: float, warm_s: int
) -> None:
    """One delivery: backlog, `warm_s` seconds to warm up, then each rate."""
    config = ours.write(environment)
    environment.fill(ours.events, ours.partitions, options.events)
    rates = [(WARM_RATE, warm_s)] if options.rates else []
    rates += [(rate, options.seconds) for rate in options.rates]
    total = options.events + sum(rate * seconds for rate, seconds in rates)
    out = environment.directory / f"{ours.name}-arrivals.npz"
    backlog = environment.directory / f"{ours.name}-backlog.npz"
    reader = environment.reader(ours.scored, options.events, backlog)
    with ours.running(environment, config) as running:
        found = running.costs(running.usage_while(reader), options.events)
        asked_us = running.counted(MODEL_CPU.name) / options.events * US_PER_S
        arrivals = Arrivals.load(backlog)
        print(f"{ours.delivery}: backlog {arrivals.throughput():,.0f} events/s")
        of_models_us = {"in the models": asked_us, "models alone": alone_us}
        report_cpu(found, of_models_us, len(environment.models), options.core_hour_price)
        first = options.events
        sent = []
        reader = environment.reader(ours.scored, total, out, known=first)
        for turn, (rate, seconds) in enumerate(rates):
            path = environment.directory / f"{ours.name}-sent-{turn}.npz"
            began_s, busy_before_s = time.monotonic(), busy_s()
            environment.loader(ours.events, rate, seconds, first, path).wait()
            cores = (busy_s() - busy_before_s) / (time.monotonic() - began_s)
            sent.append((rate, path, cores))
            first += rate * seconds
        reader.wait()
        running.check()
        arrivals = Arrivals.load(out)
        for rate, path, cores in sent[1:]:
            late = arrivals.latencies_ms(path)[rate * options.warm_s :]
            p50, p95, p99, p999 = np.percentile(late, [50, 95, 99, 99.9])
            print(f"  {rate:6d}/s  p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f}  "
                  f"p99.9 {p999:6.1f}  max {late.max():6.1f} ms, {cores:.2f} cores")  # fmt: skip
        print(f"  {arrivals.lost(total)} lost, {arrivals.repeated} repeated")


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
    parser.add_argument("--compiled", action="store_true", help="the models turned into ONNX")
    parser.add_argument("--core-hour-price", type=float, help="of one core, in any currency")
    parser.add_argument("--broker", default="", help="one that runs; else one is started")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    options.warm_s, options.warm_broker_s, rows = WARM_S, WARM_BROKER_S, TRAINING_ROWS
    if options.smoke:
        options.events, options.rates, options.seconds, options.warm_s = 3000, "100", 2, 1
        options.warm_broker_s = 0
        options.deliveries, rows = "exactly_once", SMOKE_ROWS
    options.rates = [int(rate) for rate in options.rates.split(",") if rate]
    with rig(
        options.bundle,
        servers=options.broker,
        long_lived=not options.smoke,
        training_rows=rows,
        compiled=options.compiled,
    ) as environment:
        alone_us = models_alone_us(environment)
        warm_s = options.warm_broker_s
        for delivery in options.deliveries.split(","):
            ours = Ours(delivery.replace("_", "-"), delivery, options.strategy, options.workers)
            measure(environment, ours, options, alone_us, warm_s)
            warm_s = min(warm_s, options.warm_s)


if __name__ == "__main__":
    main()
