"""What cannot work is said, at once and in one line."""

import tempfile
from pathlib import Path

from chaos.goals.goal import Result, goal
from chaos.refusals import CASES, Refusing

WITHIN_S = 10.0


@goal(
    "23",
    "a topic is missing or too small, partition counts differ, credentials, TLS or rights are "
    "refused, nobody answers: worker, combiner, monitor, check",
    "a named error on one line and its exit code within 10 s, each time",
    count=1,
)
def refusals(count: int) -> Result:
    """All cases, all roles that they concern, all roles of a case at once."""
    slowest, which, wrong, seen = 0.0, "", [], 0
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="chaos-") as place, Refusing(Path(place)) as broker:
            for case in CASES:
                for role, ending in broker.endings(case).items():
                    seen += 1
                    if ending.seconds > slowest:
                        slowest, which = ending.seconds, f"{case.name}, {role}"
                    named = case.says in ending.last_line or role == "check"
                    one_line = "\n" not in ending.last_line or role == "check"
                    expected = ending.exit_code == case.exit_codes[role]
                    if not (named and one_line and expected):
                        wrong.append(f"{case.name}, {role}: {ending}")
    return Result(
        {"cases": len(CASES), "processes": seen, "slowest_s": slowest, "wrong": len(wrong)},
        not wrong and slowest <= WITHIN_S,
        "; ".join([f"slowest: {which}", *wrong])[:1500],
    )
