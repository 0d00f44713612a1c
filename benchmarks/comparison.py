"""This product beside what else one would pick, in one call: same events, models and broker.

    python -m benchmarks.comparison [--peers faust_event,faust_take,...] [--environments DIR]
        [--rounds 2] [--plain]

Peers call the models through this project's adapters, in the fastest way that is known; with
`--plain` as the manuals of the libraries show it. They have environments of their own, made where
they are missing; Ray's takes 500 MB. Each contestant finds the same backlog, alone on the machine
but for the broker and the reader; throughput is between the first tenth and the last score that was
read. Slow ones get a shorter backlog. `models alone` is the limit: the same models offline, batches
of 2,000, one core.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.pipeline import models_alone_us
from benchmarks.pipelines.environments import REQUIREMENTS, interpreter
from benchmarks.pipelines.ours import Ours
from benchmarks.pipelines.processes import US_PER_S, processes
from benchmarks.pipelines.rig import PARTITIONS, Arrivals, Rig, rig

FAST_EVENTS = 300_000
# A contestant that scores event by event is measured on what it does in a minute or so.
EVENTS = {
    "faust_event": 6000,
    "faust_take": 60_000,
    "faust_agents": 15_000,
    "quix": 6000,
    "bytewax_collect": 150_000,
    "ray_serve": 6000,
    "ray_serve_chunks": 60_000,
}
PEERS = Path(__file__).parent / "pipelines" / "peers"


def measure_peer(environment: Rig, peer: str, python: Path, attempt: int, *, plain: bool) -> float:
    """Events a second."""
    events, scored = f"{peer}-{attempt}-events", f"{peer}-{attempt}-scored"
    topics = (events, scored, f"{scored}-predictions")
    environment.create_topics(dict.fromkeys(topics, PARTITIONS))
    environment.fill(events, PARTITIONS, EVENTS[peer])
    out = environment.directory / f"{peer}-{attempt}.npz"
    command = [str(python), str(PEERS / f"{peer}.py"), environment.servers, events, scored]
    command += [str(environment.bundle), *(["plain"] if plain else [])]
    with processes() as running:
        running.start(peer, command, environment.directory / f"{peer}.log")
        environment.reader(scored, EVENTS[peer], out).wait()
        running.check()
    return Arrivals.load(out).throughput()


def measure_ours(environment: Rig, delivery: str, attempt: int) -> float:
    """Events a second."""
    ours = Ours(f"{delivery.replace('_', '-')}-{attempt}", delivery)
    config = ours.write(environment)
    environment.fill(ours.events, ours.partitions, FAST_EVENTS)
    out = environment.directory / f"{ours.name}.npz"
    reader = environment.reader(ours.scored, FAST_EVENTS, out)
    with ours.running(environment, config) as running:
        reader.wait()
        running.check()
    return Arrivals.load(out).throughput()


def main() -> None:
    """One after another, then the ratios."""
    parser = argparse.ArgumentParser(description="throughput beside the peers")
    parser.add_argument("--peers", default=",".join(REQUIREMENTS))
    parser.add_argument("--environments", type=Path, help="where peers' environments are kept")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="peers call the libraries plainly")
    options = parser.parse_args()
    peers = [peer for peer in options.peers.split(",") if peer]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary, rig() as environment:
        directory = options.environments or Path(temporary)
        pythons = {peer: interpreter(peer, directory) for peer in peers}
        print(f"models alone {US_PER_S / models_alone_us(environment):,.0f} events/s", flush=True)
        for attempt in range(options.rounds):
            for delivery in ("exactly_once", "at_least_once"):
                rate = measure_ours(environment, delivery, attempt)
                rates.setdefault(delivery, []).append(rate)
                print(f"{delivery:16s} {rate:10,.0f} events/s", flush=True)
            for peer, python in pythons.items():
                rate = measure_peer(environment, peer, python, attempt, plain=options.plain)
                rates.setdefault(peer, []).append(rate)
                print(f"{peer:16s} {rate:10,.0f} events/s", flush=True)
    print("\nexactly_once over each, lowest and highest of the rounds")
    for name, found in rates.items():
        ratios = [a / b for a in rates["exactly_once"] for b in found]
        print(f"  {name:16s} {min(ratios):8.2f} .. {max(ratios):8.2f}")


if __name__ == "__main__":
    main()
