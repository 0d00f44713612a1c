"""ONNX models, run by ONNX Runtime on the processor.

Taken are models with one input, a tensor of floats [rows, features], and one output that can be a
score, as skl2onnx, onnxmltools and the exporters of neural networks write them. Beside it there
may be predicted labels, which are integers or text and are left alone. A score is a tensor [rows],
[rows, 1] or [rows, classes], or what the `ZipMap` operator makes of the last: one map from class
to probability for each row. That one costs an object for each row; export with `zipmap=False`.

Inputs in float32 round the features, as they did when the model was exported.
"""

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.errors import BundleError
from workers.adapters import LoadedModel
from workers.tensors import scores_of, the_score

_INPUT_TYPES: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
}
_SCORE_TYPES = {"tensor(float)", "tensor(double)", "tensor(float16)"}
# Errors only: what is wrong with a model is said by the exception.
_LOG_ERRORS = 3


def save(estimator: Any) -> bytes:
    """The bytes of an ONNX `ModelProto`."""
    return bytes(estimator.SerializeToString(deterministic=True))


def load(
    data: bytes,
    *,
    name: str,
    version: str,
    minimum: float | None,
    maximum: float | None,
    columns: int = 1,
    threads: int = 1,
) -> LoadedModel:
    """A model from the bytes of an `.onnx` file.

    Raises:
        BundleError: the bytes are no ONNX model, or it has inputs or outputs of other kinds.
    """
    session = _session(data, threads)
    kind, feature_input = _input_of(session.get_inputs())
    output, is_map = _output_of(session.get_outputs())

    def score(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        # What float32 cannot hold becomes infinite, and compares as that.
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(matrix, dtype=kind)
        [answer] = session.run([output], {feature_input: rows})
        values = _unzipped(answer) if is_map else np.asarray(answer, dtype=np.float64)
        return scores_of(values, len(rows))

    return LoadedModel(name, version, minimum, maximum, score, columns)


def _session(data: bytes, threads: int) -> Any:
    """A session that uses so many threads and reads no other file."""
    from onnxruntime import ExecutionMode, InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS
    # Threads that wait for work by turning in circles take the processor from other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights in files beside the model are not under its hash: there is no folder for them.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    try:
        return InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common parent below this one
        raise BundleError(f"no ONNX model that runs here: {_first_line(error)}") from error


def _input_of(inputs: Sequence[Any]) -> tuple[type[np.floating[Any]], str]:
    """The number type and the name of the one tensor of features."""
    expected = "expected one tensor of floats, [rows, features]"
    if len(inputs) != 1:
        raise BundleError(f"takes {len(inputs)} inputs, {_listed(inputs)}; {expected}")
    [found] = inputs
    kind = _INPUT_TYPES.get(found.type)
    if kind is None or len(found.shape) != 2:
        raise BundleError(f"takes {_listed(inputs)}; {expected}")
    if isinstance(found.shape[0], int):
        raise BundleError(
            f"takes exactly {found.shape[0]} rows a call; export it for any number of rows"
        )
    return kind, found.name


def _output_of(outputs: Sequence[Any]) -> tuple[str, bool]:
    """The name of the output that is the score, and whether it is a sequence of maps."""
    maps = {output.name for output in outputs if output.type.startswith("seq(map(")}
    floats = {output.name for output in outputs if output.type in _SCORE_TYPES}
    try:
        chosen = the_score([o.name for o in outputs], maps | floats)
    except ValueError as error:
        raise BundleError(f"{error} (it has {_listed(outputs)})") from error
    return chosen, chosen in maps


def _unzipped(rows: Sequence[Mapping[Any, float]]) -> NDArray[np.float64]:
    """float64[N, K] from N maps, classes in ascending order as exporters and models have them."""
    columns = [map(itemgetter(key), rows) for key in sorted(rows[0])]
    return np.column_stack([np.fromiter(c, np.float64, len(rows)) for c in columns])


def _listed(tensors: Sequence[Any]) -> str:
    return ", ".join(f"{t.name}: {t.type}{t.shape}" for t in tensors) or "none"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
