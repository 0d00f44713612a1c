"""Imports of model libraries without what they import for others.

XGBoost and LightGBM import scikit-learn and pandas where they find them, to offer interfaces that
no worker uses; scikit-learn's persistence imports pandas. That is most of a worker's start, and a
hundred megabytes of each process.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_NATIVE = ("xgboost", "lightgbm")
_TABLES = ("pandas", "pyarrow")


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within it these cannot be imported, unless they are there already."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None makes an import fail, as the language says
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]


@contextmanager
def lean_imports(formats: set[str]) -> Iterator[None]:
    """For loading models of these formats, and nothing else, in a process of its own.

    What is imported within it stays as it is: `xgboost` then has no scikit-learn interface.
    """
    with without(*_TABLES):
        with without("sklearn"):
            for library in _NATIVE:
                if library in formats:
                    with suppress(ImportError):  # the loader says what is missing
                        importlib.import_module(library)
        yield
