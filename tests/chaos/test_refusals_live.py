"""What cannot work ends soon, with one line that says why and its exit code.

How soon is a matter of measuring (goal 23): other tests share the machine.
"""

from collections.abc import Iterator

import pytest

from chaos.refusals import CASES, Refusing

# Each kind of refusal once, with the roles that find it out in ways of their own.
CHOSEN = {
    "no topic": ["worker"],
    "nobody listens": ["monitor", "check"],
    "wrong password": ["combiner", "check"],
    "unknown certificate authority": ["combiner", "monitor"],
    "nothing is allowed": ["worker", "monitor"],
    "reading is not allowed": ["worker", "combiner"],
    "record too large for its topic": ["worker", "combiner"],
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refusing]:
    with Refusing(tmp_path_factory.mktemp("refusing")) as broker:
        yield broker


@pytest.mark.parametrize("name", CHOSEN)
def test_what_cannot_work_is_said(broker: Refusing, name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    for role, ending in broker.endings(case, CHOSEN[name]).items():
        assert ending.exit_code == case.exit_codes[role], (role, ending)
        # `check` says more than one thing.
        assert case.says in ending.last_line or role == "check", (role, ending)
        assert role == "check" or "\n" not in ending.last_line, (role, ending)
