"""Every kind of fault that a storm is made of: done, held for a while, and undone."""

import random
import signal
from collections.abc import Callable
from contextlib import suppress

from chaos.load import POISON_KEY, Event, good_event, skewed_ms
from chaos.models import MOODS
from chaos.proxy import END_TXN, Toxics, Treatment
from chaos.stage import Stage

# Longer than a commit may take, shorter than a session.
A_WHILE_S = 3.0

Fault = Callable[[Stage, random.Random], None]

POISON: tuple[bytes | None, ...] = (
    None,
    b"",
    b'{"id": "p", "x": 1',
    b"[1, 2]",
    b"\xff\xfe\x00",
    b'{"id": "p"}',
    b'{"id": "p", "x": "1"}',
    b'{"id": "p", "x": NaN}',
    b'{"id": "p", "x": 1e400}',
    b'{"x": 1}',
    b'{"id": "p", "x": 1, "y": ' + b"[" * 2000,
)


def mixed_event(number: int) -> Event:
    """Mostly good events; each fiftieth is poison, and most producers' clocks are wrong.

    >>> mixed_event(49)[:2], mixed_event(50)[0]
    ((None, b'poison-49'), b'{"id":"e50","x":0.0}')
    """
    value, key, _ = good_event(number)
    if is_poison(number):
        value, key = POISON[number // 50 % len(POISON)], b"%s%d" % (POISON_KEY, number)
    return value, key, skewed_ms(number)


def is_poison(number: int) -> bool:
    """Whether the event of this number cannot be scored."""
    return number % 50 == 49


# -- processes -------------------------------------------------------------------------------


def signalled(role: str, number: signal.Signals) -> Fault:
    """One process of a role, chosen by chance, is sent a signal."""

    def fault(stage: Stage, chance: random.Random) -> None:
        stage.signal(chance.choice(stage.names(role)), number)

    return fault


def asleep(role: str) -> Fault:
    """One process of a role stands still for a while, at times longer than its session."""

    def fault(stage: Stage, chance: random.Random) -> None:
        pid = stage.freeze(chance.choice(stage.names(role)))
        stage.rest(chance.choice((A_WHILE_S, 8.0)))
        with suppress(ProcessLookupError):
            stage.thaw(pid)

    return fault


def everything_restarted(stage: Stage, _chance: random.Random) -> None:
    """All processes are asked to end at once, and started by the supervisor."""
    for name in stage.names():
        stage.supervisor.kill(name, signal.SIGTERM)


def guest(stage: Stage, chance: random.Random) -> None:
    """One combiner more joins the group for a while, and leaves."""
    with stage.beside("combiner-0", slot=f"guest-{chance.randrange(3)}") as process:
        stage.rest(A_WHILE_S + 1)
        process.terminate()
        process.wait()


def mood(name: str) -> Fault:
    """One of the models behaves so for a while."""

    def fault(stage: Stage, _chance: random.Random) -> None:
        stage.mood(name)
        stage.rest(A_WHILE_S)
        stage.mood("")

    return fault


# -- surroundings ----------------------------------------------------------------------------


def broker_restarted(stage: Stage, _chance: random.Random) -> None:
    """SIGTERM, and a new start."""
    broker = stage.kafka.brokers[0]
    broker.stop()
    broker.launch()
    broker.await_ready()


def broker_killed(stage: Stage, _chance: random.Random) -> None:
    """SIGKILL, and a new start."""
    broker = stage.kafka.brokers[0]
    broker.kill()
    broker.launch()
    broker.await_ready()


def way_to_broker(toxics: Toxics, seconds: float = A_WHILE_S) -> Fault:
    """The processes' way to the broker is like this for a while."""

    def fault(stage: Stage, _chance: random.Random) -> None:
        stage.proxies[0].set(toxics)
        stage.rest(seconds)
        stage.proxies[0].heal()

    return fault


def connections_cut(stage: Stage, _chance: random.Random) -> None:
    """All connections of the processes to the broker are reset."""
    stage.proxies[0].cut()


def redis_killed(stage: Stage, _chance: random.Random) -> None:
    """SIGKILL, a while without, and a new start."""
    assert stage.cache is not None, "a storm has a Redis"
    stage.cache.kill()
    stage.rest(A_WHILE_S)
    stage.cache.start()


def way_to_redis(toxics: Toxics) -> Fault:
    """The processes' way to Redis is like this for a while."""

    def fault(stage: Stage, _chance: random.Random) -> None:
        assert stage.redis_proxy is not None, "a storm has a proxy before Redis"
        stage.redis_proxy.set(toxics)
        stage.rest(A_WHILE_S)
        stage.redis_proxy.heal()

    return fault


FAULTS: dict[str, Fault] = {
    **{f"kill -9 of a {role}": signalled(role, signal.SIGKILL) for role in ("worker", "combiner")},
    "kill -9 of the monitor": signalled("monitor", signal.SIGKILL),
    **{f"SIGTERM of a {role}": signalled(role, signal.SIGTERM) for role in ("worker", "combiner")},
    "SIGTERM of the monitor": signalled("monitor", signal.SIGTERM),
    "SIGSTOP of a worker": asleep("worker"),
    "SIGSTOP of a combiner": asleep("combiner"),
    "all processes restarted": everything_restarted,
    "a combiner joins and leaves": guest,
    **{f"a model: {name}": mood(name) for name in MOODS},
    "broker restarted": broker_restarted,
    "broker killed": broker_killed,
    "connections to the broker cut": connections_cut,
    "way to the broker slow": way_to_broker(Toxics(latency_ms=60, jitter_ms=60)),
    "way to the broker hangs": way_to_broker(Toxics(hang=True)),
    "broker refuses connections": way_to_broker(Toxics(refuse=True)),
    "answers to a commit never come": way_to_broker(
        Toxics(replies={END_TXN: Treatment("swallow", times=1)})
    ),
    "answers to a commit late": way_to_broker(
        Toxics(replies={END_TXN: Treatment("delay", ms=500, times=5)})
    ),
    "Redis killed": redis_killed,
    "Redis hangs": way_to_redis(Toxics(hang=True)),
    "Redis slow": way_to_redis(Toxics(latency_ms=500)),
}
