"""Redis in every state but well, as the combiner sees it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer

import numpy as np
from redis import Redis

from chaos.goals.goal import Result, goal
from chaos.plan import Plan
from chaos.proxy import LOOPBACK, Toxics
from chaos.reader import wait_for
from chaos.stage import Stage
from chaos.verdict import latencies_ms
from streams.embedded import EmbeddedRedis

RATE_PER_S = 1000
SETTLED_MS = 200
# How long each state lasts; the first second of it is the breakers' time to open.
FAULT_S, OPENING_S = 5.0, 1.0
_OPEN = 'ensemble_cache_breaker_open{cache="latest'
Fault = Callable[[Stage], Iterator[None]]


def _cache(stage: Stage) -> EmbeddedRedis:
    assert stage.cache is not None, "a plan without a Redis"
    return stage.cache


def down(stage: Stage) -> Iterator[None]:
    """Its process is gone."""
    _cache(stage).kill()
    yield
    _cache(stage).start()


def stopped(stage: Stage) -> Iterator[None]:
    """SIGSTOP: it accepts and never answers."""
    os.kill(_cache(stage).pid, signal.SIGSTOP)
    yield
    os.kill(_cache(stage).pid, signal.SIGCONT)


def slow(stage: Stage) -> Iterator[None]:
    """500 ms away."""
    assert stage.redis_proxy is not None, "a plan without a proxy"
    stage.redis_proxy.set(Toxics(latency_ms=250))
    yield
    stage.redis_proxy.heal()


def full(stage: Stage) -> Iterator[None]:
    """Refuses writes, answers reads."""
    with Redis.from_url(_cache(stage).url) as client:
        client.config_set("maxmemory", "1")
        yield
        client.config_set("maxmemory", "0")


class _Loading(StreamRequestHandler):
    """Answers each command as a server does that reads its dataset from the disk."""

    def handle(self) -> None:
        while data := self.request.recv(65_536):
            # A command is an array, which begins with `*` on a line of its own.
            commands = (b"\r\n" + data).count(b"\r\n*")
            self.request.sendall(b"-LOADING Redis is loading the dataset in memory\r\n" * commands)


def loading(stage: Stage) -> Iterator[None]:
    """Another server in its place says LOADING to everything; a small dataset loads too fast."""
    proxy = stage.redis_proxy
    assert proxy is not None, "a plan without a proxy"
    with ThreadingTCPServer((LOOPBACK, 0), _Loading) as other:
        other.daemon_threads = True
        threading.Thread(target=other.serve_forever, daemon=True).start()
        proxy.target_port = other.server_address[1]
        proxy.cut()
        yield
        proxy.target_port = _cache(stage).port
        proxy.cut()
        other.shutdown()


def restarted(stage: Stage) -> Iterator[None]:
    """Stopped and started at once."""
    _cache(stage).restart()
    yield


def locked(stage: Stage) -> Iterator[None]:
    """Wants a password all of a sudden."""
    with Redis.from_url(_cache(stage).url) as client:
        client.config_set("requirepass", "another")
        client.client_kill_filter(_type="normal", skipme=True)
        yield
        client.config_set("requirepass", "")
        client.client_kill_filter(_type="normal", skipme=True)


def nothing(_stage: Stage) -> Iterator[None]:
    """By how much a p99 differs from the one before by itself."""
    yield


FAULTS: dict[str, Fault] = {
    "down": down,
    "SIGSTOP": stopped,
    "500 ms": slow,
    "full": full,
    "LOADING": loading,
    "restart": restarted,
    "wrong auth": locked,
}


def _p99_ms(stage: Stage, from_ns: int) -> float:
    """Of the events that were sent since, and came out."""
    acknowledged = dict(stage.acknowledged.sent_ns)  # events are still being sent
    sent = {source: at for source, at in acknowledged.items() if at >= from_ns}
    found = latencies_ms(sent, list(stage.reader.outcomes))
    return float(np.percentile(found, 99)) if found.size else 0.0


@goal(
    "11",
    "Redis down, stopped, 500 ms away, full, loading, restarted, with another password; once with "
    "models that answer, once with none, when every event asks the cache",
    "0 lost, 0 duplicates; p99 ≤ +5 ms with open breakers; breakers close ≤ 5 s after recovery",
    count=3,
)
def redis_faults(count: int) -> Result:
    """Each state for five seconds, so many times, and nothing as often; medians of these times."""
    figures: dict[str, float | int | str] = {}
    held, events, lost, repeated = True, 0, 0, 0
    for kind, model in (("models", "chaos.models:mild"), ("no models", "chaos.models:broken")):
        plan = Plan(redis_proxy=True, models={"one": model}, workers={"one": ("one",)})
        with Stage(plan) as stage:
            stage.await_ready()
            with stage.load(RATE_PER_S):
                stage.await_flow(SETTLED_MS)
                stage.rest(3)
                # After each fault nothing, so that the worst of both is the worst of as many.
                rounds = [
                    [_suffer(stage, each) for fault in FAULTS.values() for each in (fault, nothing)]
                    for _ in range(count)
                ]
            report = stage.report()
        changes, closings = np.moveaxis(np.array(rounds), -1, 0)
        medians = np.median(changes, axis=0)
        by_fault = dict(zip(FAULTS, medians[::2].tolist(), strict=True))
        worst, noise, closing = medians[::2].max(), medians[1::2].max(), closings.max()
        figures[f"{kind}: p99 changes ms"] = ", ".join(f"{n} {v:.0f}" for n, v in by_fault.items())
        figures[f"{kind}: the worst ms"] = float(worst)
        figures[f"{kind}: the worst with nothing done ms"] = float(noise)
        figures[f"{kind}: closing s"] = float(closing)
        events += report.events
        lost += len(report.after.lost)
        repeated += len(report.after.duplicates) + len(report.after.contradictory)
        held &= report.clean and bool(worst <= 5 and closing <= 5)
    return Result({"events": events, "lost": lost, "duplicates": repeated, **figures}, held)


def _suffer(stage: Stage, fault: Fault) -> tuple[float, float]:
    """One state: by how much p99 grew once the breakers were open, and when they closed again."""
    calm_ns = time.monotonic_ns()
    stage.rest(FAULT_S - OPENING_S)
    calm_ms = _p99_ms(stage, calm_ns)
    with contextmanager(fault)(stage):
        stage.rest(OPENING_S)
        since_ns = time.monotonic_ns()
        stage.rest(FAULT_S - OPENING_S)
        suffering_ms = _p99_ms(stage, since_ns)
    healed_s = time.monotonic()
    wait_for(lambda: not stage.metric("combiner-0", _OPEN), lambda: "the breakers stay open")
    return suffering_ms - calm_ms, time.monotonic() - healed_s
