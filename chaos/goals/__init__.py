"""What is to be reached: every goal of the modules beside this one, found by itself."""

import importlib
import pkgutil
import re

from chaos.goals.goal import Goal


def find_goals() -> dict[str, Goal]:
    """All goals by their numbers, in order."""
    found: dict[str, Goal] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for each in vars(module).values():
            if isinstance(each, Goal):
                other = found.get(each.number)
                assert other is None or other is each, f"two goals {each.number}"
                found[each.number] = each
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(number: str) -> tuple[int, str]:
    """Numbers first, `2b` behind `2`, names last.

    >>> sorted(["catch-up", "10", "2b", "2"], key=_order)
    ['2', '2b', '10', 'catch-up']
    """
    digits = re.match(r"\d+", number)
    return (int(digits[0]) if digits else 1000, number)
