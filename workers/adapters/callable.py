"""Any Python function from float64[N, F] to N scores, named as `module:function`."""

import importlib
import sys
from pathlib import Path
from typing import Any

from streams.errors import ConfigurationError
from workers.adapters import LoadedModel


def save(estimator: Any) -> bytes:
    """The name of a function that a module holds."""
    return f"{estimator.__module__}:{estimator.__qualname__}".encode()


def load(
    data: bytes,
    *,
    name: str,
    version: str,
    minimum: float | None,
    maximum: float | None,
    columns: int = 1,
    threads: int = 1,  # noqa: ARG001 - how many threads it uses is the function's own business
) -> LoadedModel:
    """A model from the name of its function; the working directory is searched last.

    Raises:
        ConfigurationError: there is no such function; the place is `models.NAME.callable`.
    """
    place, text = f"models.{name}.callable", data.decode()
    module_name, _, path = text.partition(":")
    if not module_name or not path:
        raise ConfigurationError(place, f"{text!r}; expected 'module:function'")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except (
        Exception,
        SystemExit,
    ) as error:  # a module may raise anything while it runs
        problem = f"module {module_name!r} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigurationError(place, problem) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(place, f"{module_name!r} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigurationError(place, f"{text!r} is a {type(found).__name__}, no function")
    return LoadedModel(name, version, minimum, maximum, found, columns)
