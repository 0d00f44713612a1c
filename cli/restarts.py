"""When a process that ended is started again: arithmetic only, time is an argument.

A child is like a lamp that went out. Mostly one switches it on again; if it goes out at once,
one waits a little longer each time. If the street has no power (the broker is away), one keeps
trying for as long as it takes. If the lamp itself burns out again and again, one stops before the
wall catches fire. And if there is no lamp in the socket (a wrong configuration), trying is
pointless. A door that does not open (Kafka refuses the password) is tried as often as a lamp: the
caretaker may be on his way, but whoever rattles for ever is locked out.

    ended because of          restart after             given up
    the surroundings          0.1 s, 0.2 s … 10 s       never
    itself                    0.1 s, 0.2 s … 10 s       after `crashes` within the window:
                                                        quarantined
    a model it hosts          0.1 s, 0.2 s … 10 s       never: the process leaves that model out
    a refusal by Kafka        0.1 s, 0.2 s … 10 s       likewise: quarantined
    the user's configuration  -                         at once: failed

A child that lived for `healthy_ns` has a clean slate: the delay starts over, and its end does not
count as a crash. Whoever is ended from outside, in order or not, has it after `working_ns`, the
time to start.
"""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from streams.errors import AccessError, EnsembleError

NS_PER_S = 1_000_000_000
KILLED = -signal.SIGKILL
# Who works and then ends in order, or of such a signal, was asked to.
FROM_OUTSIDE = frozenset({0, -signal.SIGTERM, KILLED})
# Tells a child how the one before it ended: its exit code, negative for a signal.
PREDECESSOR_VARIABLE = "ENSEMBLE_PREDECESSOR_EXIT"

Reason = Literal["surroundings", "itself", "user"]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient a supervisor is.

    The defaults give a process that dies at once eight starts within 7 s, and one that lives
    five seconds each time is never quarantined: it does some good in between.
    """

    first_delay_ns: int = NS_PER_S // 10
    longest_delay_ns: int = 10 * NS_PER_S
    healthy_ns: int = 5 * NS_PER_S
    working_ns: int = NS_PER_S
    crashes: int = 8
    window_ns: int = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of a child: ends since it was last healthy, and when it crashed."""

    ends_in_a_row: int = 0
    crashed_at_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again at this monotonic time."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again by yourself."""

    state: Literal["quarantined", "failed"]


Decision = Restart | GiveUp


def _tree(root: type[EnsembleError]) -> Iterator[type[EnsembleError]]:
    for child in root.__subclasses__():
        yield child
        yield from _tree(child)


_RETRIABLE = {kind.exit_code: kind.retriable for kind in _tree(EnsembleError)}
# Tried again a few times, as if it were the process's own fault.
del _RETRIABLE[AccessError.exit_code]


def reason_of(exit_code: int) -> Reason:
    """Whose fault an end was, by the exit codes of `streams.errors`; a signal is negative.

    Nobody dies of SIGKILL by himself: it was a person, or a system without memory.

    >>> reason_of(2), reason_of(5), reason_of(-9), reason_of(-11), reason_of(1), reason_of(11)
    ('user', 'surroundings', 'surroundings', 'itself', 'itself', 'itself')
    """
    if exit_code == KILLED:
        return "surroundings"
    retriable = _RETRIABLE.get(exit_code)
    if retriable is None:
        return "itself"
    return "surroundings" if retriable else "user"


def predecessor_exit(environment: Mapping[str, str]) -> int | None:
    """What `PREDECESSOR_VARIABLE` says; None if no supervisor of ours has set it.

    >>> predecessor_exit({"ENSEMBLE_PREDECESSOR_EXIT": "-11"}), predecessor_exit({})
    (-11, None)
    """
    text = environment.get(PREDECESSOR_VARIABLE, "")
    return int(text) if text.removeprefix("-").isdecimal() else None


def delay_ns(policy: RestartPolicy, ends_in_a_row: int) -> int:
    """How long to wait before the next start: doubles with each end, up to the longest."""
    assert ends_in_a_row >= 1, "nothing has ended"
    # Beyond 2^62 the shift has long passed any longest delay.
    return min(policy.first_delay_ns << min(ends_in_a_row - 1, 62), policy.longest_delay_ns)


def judge(
    policy: RestartPolicy,
    history: History,
    exit_code: int,
    started_ns: int,
    ended_ns: int,
    *,
    excused: bool = False,
) -> tuple[History, Decision]:
    """What to do about a child that ended without being asked, and what to remember.

    One that is `excused` ended because of something that its successor will deal with.
    """
    assert ended_ns >= started_ns, "ended before it was started"
    reason = reason_of(exit_code)
    if reason == "user":
        return history, GiveUp("failed")
    enough_ns = policy.working_ns if exit_code in FROM_OUTSIDE else policy.healthy_ns
    lived_well = ended_ns - started_ns >= enough_ns
    if lived_well:
        history = History()
    ends = history.ends_in_a_row + 1
    history = replace(history, ends_in_a_row=ends)
    restart = Restart(ended_ns + delay_ns(policy, ends))
    if lived_well:
        return history, restart
    if reason == "itself" and not excused:
        recent = [at for at in history.crashed_at_ns if ended_ns - at < policy.window_ns]
        history = replace(history, crashed_at_ns=(*recent, ended_ns))
        if len(history.crashed_at_ns) >= policy.crashes:
            return history, GiveUp("quarantined")
    return history, restart
