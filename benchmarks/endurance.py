"""A steady stream for long: whether memory grows, how late scores are, whether any is missing.

    python -m benchmarks.endurance [--seconds 600] [--rate 10000] [--bundle DIR]
        [--strategy weighted_mean] [--broker SERVERS] [--smoke]

A real broker, exactly once, five trained models in one worker, one combiner, JSON events of 30
features; broker, sender and reader share the machine. The memory (resident, MB) of each process is
looked at every five seconds: after a minute, in the middle, at the end, and how much it grows in a
minute, by least squares over the second half. Latency is from the call that sends an event to the
moment its score was read, without the first five seconds. What is lost or repeated is counted by
the events' ids.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.pipeline import WARM_S
from benchmarks.pipelines.ours import Ours
from benchmarks.pipelines.processes import Sample
from benchmarks.pipelines.rig import NS_PER_S, Arrivals, Rig, rig
from benchmarks.pipelines.small import small_bundle

SAMPLE_S = 5.0
S_PER_MINUTE = 60
# Scored before the stream begins, so that it finds everything at work.
FIRST_EVENTS = 2000


def report_memory(samples: Sequence[Sample]) -> None:
    """MB of each process at some moments, and its growth."""
    began_ns, _ = samples[0]
    minutes = np.array([time_ns - began_ns for time_ns, _ in samples]) / NS_PER_S / S_PER_MINUTE
    late = minutes >= minutes[-1] / 2
    for name in samples[0][1]:
        memory_mb = np.array([usage[name].memory_mb for _, usage in samples])
        moments = [1.0, minutes[-1] / 2, minutes[-1]]
        minute, middle, end = np.interp(moments, minutes, memory_mb)
        growth, _ = np.polyfit(minutes[late], memory_mb[late], 1)
        print(f"  {name:12s} 1 min {minute:6.1f}  middle {middle:6.1f}  end {end:6.1f} MB  "
              f"{growth:+7.3f} MB/min")  # fmt: skip


def measure(environment: Rig, options: argparse.Namespace) -> None:
    """One stream."""
    ours = Ours("endurance", strategy=options.strategy)
    config = ours.write(environment)
    environment.fill(ours.events, ours.partitions, FIRST_EVENTS)
    total = FIRST_EVENTS + options.rate * options.seconds
    out, sent = (environment.directory / f"endurance-{part}.npz" for part in ("out", "sent"))
    with ours.running(environment, config) as running:
        reader = environment.reader(ours.scored, total, out, known=FIRST_EVENTS)
        loader = environment.loader(ours.events, options.rate, options.seconds, FIRST_EVENTS, sent)
        samples = running.usage_while(reader, options.sample_s)
        loader.wait()
    arrivals = Arrivals.load(out)
    print(f"exactly_once: {options.rate:,} events/s for {options.seconds} s")
    report_memory(samples)
    print(f"  {arrivals.lost(total)} lost, {arrivals.repeated} repeated, "
          f"{arrivals.fallbacks} with fallback")  # fmt: skip
    late = arrivals.latencies_ms(sent)[options.rate * options.warm_s :]
    p50, p95, p99, p999 = np.percentile(late, [50, 95, 99, 99.9])
    print(f"  p50 {p50:.1f}  p95 {p95:.1f}  p99 {p99:.1f}  p99.9 {p999:.1f}  "
          f"max {late.max():.1f} ms")  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="a steady stream for long")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--strategy", default="weighted_mean")
    parser.add_argument("--broker", default="", help="one that runs; else one is started")
    parser.add_argument("--smoke", action="store_true", help="a toy size, to see that it runs")
    options = parser.parse_args()
    options.warm_s, options.sample_s = WARM_S, SAMPLE_S
    with tempfile.TemporaryDirectory() as name:
        if options.smoke:
            options.seconds, options.rate = 2, 200
            options.warm_s, options.sample_s = 1, 0.2
            # Training takes longer than all the rest.
            options.bundle = small_bundle(Path(name) / "bundle", 5)
        with rig(
            options.bundle, servers=options.broker, long_lived=not options.smoke
        ) as environment:
            measure(environment, options)


if __name__ == "__main__":
    main()
