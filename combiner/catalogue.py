"""Which strategies there are, and one of them for an ensemble.

A class of `combiner/strategies/` joins by being there.
"""

import importlib
import inspect
import pkgutil
from functools import cache
from typing import cast

from combiner import strategies
from combiner.strategies.protocol import Ingredients, Strategy
from streams.errors import ConfigurationError


@cache
def catalogue() -> dict[str, type[Strategy]]:
    """Name → class of every strategy."""
    found: dict[str, type[Strategy]] = {}
    for info in pkgutil.iter_modules(strategies.__path__):
        module = importlib.import_module(f"{strategies.__name__}.{info.name}")
        for _, value in inspect.getmembers(module, inspect.isclass):
            own = value.__module__ == module.__name__ and value is not Strategy
            if own and hasattr(value, "made_of"):
                strategy = cast("type[Strategy]", value)
                assert strategy.name not in found, f"two strategies are called {strategy.name}"
                found[strategy.name] = strategy
    return found


def strategy_named(name: str, ingredients: Ingredients) -> Strategy:
    """That strategy for that ensemble.

    Raises:
        ConfigurationError: there is none of that name, it is not defined for the ensemble's task,
            or it lacks something in the bundle.
    """
    known = catalogue()
    if name not in known:
        raise ConfigurationError(
            "combiner.strategy", f"{name!r}; expected one of {', '.join(sorted(known))}"
        )
    task = ingredients.manifest.task
    if task not in known[name].tasks:
        fitting = sorted(other for other, found in known.items() if task in found.tasks)
        raise ConfigurationError(
            "combiner.strategy",
            f"{name} is not defined for {task}; expected one of {', '.join(fitting)}",
        )
    return known[name].made_of(ingredients)
