"""From settings and a bundle to models that answer as they did when they were trained."""

import importlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from registry.bundle import LoadedBundle, read_artefact
from registry.manifest import Manifest, ModelEntry
from streams.errors import BundleError, ConfigurationError
from streams.settings import ModelSettings
from workers.protocol import Model

# Which adapter reads which format; the module is imported when the first such model is loaded.
ADAPTERS = {
    "scikit-learn": "workers.adapters.scikit_learn",
    "xgboost": "workers.adapters.xgboost",
    "lightgbm": "workers.adapters.lightgbm",
    "onnx": "workers.adapters.onnx",
    "open-inference": "workers.adapters.open_inference",
    "callable": "workers.adapters.callable",
}
# Libraries that are installed only when asked for, and what to ask for.
EXTRAS = {"onnxruntime": "onnx", "httpx": "remote"}
# Another build of a library or another CPU may add float32 numbers in another order, which moves
# the last digit of seven; another model moves the first ones.
GOLDEN_TOLERANCE = 1e-6
# A lone event, a few, and the largest micro-batch by default: libraries allocate for each anew.
WARM_UP_ROWS = (1, 10, 2000)
# A model that takes longer gains little by it.
WARM_UP_S = 1.0


class Adapter(Protocol):
    """What a module of `workers.adapters` offers."""

    def save(self, estimator: object) -> bytes:
        """A fitted estimator as bytes."""
        ...

    def load(
        self,
        data: bytes,
        *,
        name: str,
        version: str,
        minimum: float | None,
        maximum: float | None,
        columns: int = 1,
        threads: int = 1,
    ) -> Model:
        """A model from such bytes."""
        ...


def adapter_for(format_: str) -> Adapter:
    """The adapter of a format; its library is imported here.

    Raises:
        BundleError: this version knows no such format, or its library is not installed.
    """
    if format_ not in ADAPTERS:
        raise BundleError(f"unknown format {format_!r}; expected one of {', '.join(ADAPTERS)}")
    return cast("Adapter", importlib.import_module(ADAPTERS[format_]))


def load_models(
    models: Sequence[ModelSettings], bundle: LoadedBundle | None, threads: int = 1
) -> list[Model]:
    """Load all models that are scored here, in order; external ones are somebody else's.

    Raises:
        BundleError: a model of the bundle is missing, changed, or does not answer as trained.
        ConfigurationError: a setting names no model.
    """
    _limit_blas(threads)
    return [load_model(model, bundle, threads) for model in models if not model.external]


def load_model(settings: ModelSettings, bundle: LoadedBundle | None, threads: int = 1) -> Model:
    """Load one model: a function or a server if the settings name one, else the bundle's.

    Args:
        settings: the model's table in the configuration.
        bundle: where trained models are; None if every model is a function.
        threads: how many threads one call may use.

    Raises:
        BundleError: the file is missing, changed, unreadable, or does not answer as trained.
        ConfigurationError: the settings name no model; carries the setting's path.
    """
    assert not settings.external, "an external model is not loaded here"
    minimum, maximum, columns = limits_of(settings, bundle)
    common: dict[str, Any] = {
        "name": settings.name,
        "minimum": minimum,
        "maximum": maximum,
        "columns": columns,
        "threads": threads,
    }
    if settings.callable:
        function = settings.callable.encode()
        return adapter_for("callable").load(function, version=settings.version, **common)
    if settings.remote:
        return _remote_model(settings, bundle, common)
    entry = bundle.manifest.model(settings.name) if bundle else None
    if bundle is None or entry is None:
        known = [model.name for model in bundle.manifest.models] if bundle else []
        own = "a `callable` or `remote`"
        expected = f"one of {', '.join(known)}, or {own}" if known else own
        raise ConfigurationError(
            f"models.{settings.name}", f"no such model in the bundle; expected {expected}"
        )
    if settings.version not in {"", entry.version}:
        raise ConfigurationError(
            f"models.{settings.name}.version",
            f"{settings.version!r}, and the bundle holds {entry.version!r}",
        )
    try:
        data = read_artefact(bundle, entry.artefact)
        model = adapter_for(entry.format).load(data, version=entry.version, **common)
        _check_golden(model, entry, bundle.manifest)
    except BundleError as error:
        path = str(bundle.directory / entry.artefact.path)
        text = str(error).removeprefix(f"{path}: ")
        raise BundleError(f"{path}: model {entry.name!r}: {text}") from error
    except ImportError as error:
        raise missing_library(entry.name, error) from error
    return model


def missing_library(model: str, error: ImportError) -> BundleError:
    """That a model needs a library which is not installed, and how to install it."""
    library = (error.name or str(error)).partition(".")[0]
    extra = EXTRAS.get(library)
    how = f"install it with the extra `{extra}` of this product" if extra else "install it"
    return BundleError(f"model {model!r} needs the library {library!r}; {how}")


def limits_of(
    settings: ModelSettings, bundle: LoadedBundle | None
) -> tuple[float | None, float | None, int]:
    """What an answer of a model must be: least and greatest number, and how many of them."""
    manifest = bundle.manifest if bundle else None
    probabilities = manifest is None or manifest.task != "regression"
    low, high = settings.limits(probabilities=probabilities)
    return low, high, manifest.columns if manifest else 1


def warm(model: Model, columns: int) -> None:
    """Have a model answer once for each usual size of batch, so that no event pays for it.

    On a thread of its own, as later on: what it raises there is its own, an interrupt too.
    """
    thread = threading.Thread(target=_warm, args=(model, columns), daemon=True)
    thread.start()
    thread.join()


def _warm(model: Model, columns: int) -> None:
    begun_s = time.monotonic()
    for rows in WARM_UP_ROWS:
        if time.monotonic() - begun_s > WARM_UP_S:
            return
        try:
            model.predict(np.zeros((rows, columns)))
        except BaseException:  # noqa: BLE001 - a model that refuses zeros is judged on real rows
            return


def _remote_model(
    settings: ModelSettings, bundle: LoadedBundle | None, common: dict[str, Any]
) -> Model:
    assert settings.remote is not None
    features = bundle.manifest.schema.names if bundle else ()
    described = msgspec.json.encode(
        {"server": settings.remote.model_dump(mode="json"), "features": features}
    )
    try:
        return adapter_for("open-inference").load(
            described, version=settings.stated_version, **common
        )
    except ImportError as error:
        raise missing_library(settings.name, error) from error


def _check_golden(model: Model, entry: ModelEntry, manifest: Manifest) -> None:
    rows = np.array(manifest.golden_rows, dtype=np.float64)  # None becomes NaN
    if not len(rows):
        return
    try:
        answers = np.asarray(model.predict(rows), dtype=np.float64)
    except Exception as error:  # whatever its library raises, it does not answer as it did
        raise BundleError(f"fails on the golden rows: {type(error).__name__}: {error}") from error
    trained = np.array(entry.golden)
    if answers.shape != trained.shape:
        raise BundleError(f"answers {len(rows)} golden rows with shape {answers.shape}")
    wrong = ~np.isclose(answers, trained, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE)
    if wrong.any():
        cell = tuple(np.argwhere(wrong)[0])
        raise BundleError(
            f"does not answer as trained: golden row {cell[0]} gives {answers[cell]:.9g} "
            f"instead of {trained[cell]:.9g}"
        )


def _limit_blas(threads: int) -> None:
    """Keep numpy's matrix products to so many threads: processes are the parallelism."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(threads, user_api="blas")
