"""The models of one process: limits are set, those that may be are loaded, each under watch."""

import faulthandler
import hashlib
import logging
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from registry.bundle import LoadedBundle
from streams.settings import ModelSettings, Settings
from workers.lean import lean_imports
from workers.loading import limits_of, load_models, warm
from workers.marks import Witness, place_of
from workers.niceness import be_nice
from workers.protocol import Model
from workers.suspicion import MAX_STRIKES, Call

log = logging.getLogger(__name__)

# Loading a large model takes seconds; one that is not there by then will not come.
LOAD_LIMIT_S = 60.0
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Absent:
    """Stands for a model that is quarantined; nobody asks it."""

    name: str
    version: str
    minimum: float | None
    maximum: float | None
    columns: int = 1

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """No score for any row."""
        return np.full(len(matrix) if self.columns == 1 else (len(matrix), self.columns), np.nan)


class Crew:
    """Loads the models of one process.

    Args:
        settings: the configuration.
        worker: the process's table in it.
        slot: see `workers.service.run_worker`.
        models: those of the table.
        bundle: where trained models are.
        columns: features of a row.
        predecessor_exit: how the last process of this slot ended; None if nobody knows.

    Attributes:
        witness: of these models.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        slot: str,
        models: Sequence[ModelSettings],
        bundle: LoadedBundle | None,
        columns: int,
        predecessor_exit: int | None = None,
    ) -> None:
        self._tuning = settings.worker
        self._models = [model for model in models if not model.external]
        self._bundle = bundle
        self._columns = columns
        configurations = {model.name: self._configuration(model) for model in self._models}
        place = place_of(settings, worker, slot)
        self.witness = Witness(place, configurations, predecessor_exit)

    def load(self, wrap: Callable[[Model], Model] = lambda model: model) -> list[Model]:
        """All models, loaded and warm; in the place of a quarantined one something that is silent.

        Args:
            wrap: puts something in front of each model.

        Raises:
            BundleError, ConfigurationError: see `workers.loading.load_model`.
        """
        # Whatever ends the process from native code leaves its stack in the log.
        faulthandler.enable()
        be_nice(self._tuning.nice)
        self._limit_memory()
        with self._imports():
            return [self._load(settings, wrap) for settings in self._models]

    def _imports(self) -> AbstractContextManager[None]:
        """How libraries are imported: lean, unless code of the user may want all of them."""
        if self._bundle is None or any(model.callable for model in self._models):
            return nullcontext()
        entries = [self._bundle.manifest.model(model.name) for model in self._models]
        return lean_imports({entry.format for entry in entries if entry is not None})

    def _load(self, settings: ModelSettings, wrap: Callable[[Model], Model]) -> Model:
        name = settings.name
        past = self.witness.pasts[name]
        if past.quarantined:
            log.error(
                "model %s is quarantined: it ended its process %d times in a row; "
                "`ensemble resume %s` has it tried again",
                name, MAX_STRIKES, name,
            )  # fmt: skip
            low, high, columns = limits_of(settings, self._bundle)
            return Absent(name, self._version(settings), low, high, columns)
        with self._watched(name):
            (model,) = load_models([settings], self._bundle, self._tuning.threads_per_model)
            warm(model, self._columns)
        return wrap(model)

    @contextmanager
    def _watched(self, model: str) -> Iterator[None]:
        """Within it, an end of the process is the model's fault; it ends if it takes too long."""
        limit_s = max(LOAD_LIMIT_S, self._tuning.hang_ms / 1000)
        self.witness.marks[model].begin(Call(model, "loading"))
        faulthandler.dump_traceback_later(limit_s, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.witness.marks[model].end()

    def _limit_memory(self) -> None:
        limit_mb = self._tuning.max_address_space_mb
        if limit_mb is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = limit_mb * _BYTES_PER_MB
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

    def _configuration(self, model: ModelSettings) -> str:
        """A text that changes with whatever might make the model behave otherwise."""
        parts = [model.model_dump_json(), self._version(model), self._tuning.model_dump_json()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _version(self, model: ModelSettings) -> str:
        entry = None
        if self._bundle is not None and not model.callable:
            entry = self._bundle.manifest.model(model.name)
        return entry.version if entry is not None else model.version
