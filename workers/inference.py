"""The words of the Open Inference Protocol, version 2 over REST: requests and responses as JSON.

    POST {url}/v2/models/{model}/versions/{version}/infer
    {"inputs": [{"name": "input-0", "shape": [2, 3], "datatype": "FP32", "data": [0.1, …]}],
     "outputs": [{"name": "predict_proba"}]}

    {"model_name": "credit", "model_version": "7",
     "outputs": [{"name": "predict_proba", "shape": [2, 2], "datatype": "FP64", "data": […]}]}

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
Triton, KServe and MLServer speak it. JSON has no NaN, and the protocol no word for a missing value:
what stands for one is the server's own, and a setting.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.tensors import scores_of, the_score

Layout = Literal["matrix", "columns"]
# Everything else is labels, counts or text.
SCORE_DATATYPES = frozenset({"FP16", "FP32", "FP64", "BF16"})


class ResponseError(ValueError):
    """A response is not what was asked for; the message says how."""


class _Output(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    # Read only if it is the one that is wanted: labels may be text.
    data: msgspec.Raw


class _Response(msgspec.Struct, frozen=True):
    outputs: list[_Output]
    model_version: str | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: str


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_data = msgspec.json.Decoder(list[float | list[float | None] | None]).decode


def model_path(model: str, version: str) -> str:
    """The path of a model's version on a server.

    >>> model_path("credit risk", "7")
    '/v2/models/credit%20risk/versions/7'
    """
    return f"/v2/models/{quote(model, safe='')}/versions/{quote(version, safe='')}"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """How a model wants to be asked.

    Attributes:
        names: of the input tensors: one for a matrix, one for each feature for columns.
        layout: one tensor [N, F], or F tensors [N, 1].
        datatype: of the tensors.
        output: the output that is asked for; empty for all.
        missing: what stands for a missing value: `null`, the bare word `NaN`, or a number.
        parameters: of the request, such as MLServer's `content_type`.
    """

    names: tuple[str, ...]
    layout: Layout = "matrix"
    datatype: str = "FP32"
    output: str = ""
    missing: Literal["null", "nan"] | float = "null"
    parameters: dict[str, str | int | float | bool] = {}

    def encode(self, matrix: NDArray[np.float64]) -> bytes:
        """The body of a request about N rows of float64[N, F]."""
        if not isinstance(self.missing, str):
            matrix = np.where(np.isnan(matrix), self.missing, matrix)
        rows, columns = matrix.shape
        if self.layout == "matrix":
            [name] = self.names
            inputs = [self._tensor(name, [rows, columns], matrix)]
        else:
            inputs = [
                self._tensor(name, [rows, 1], matrix[:, column])
                for column, name in enumerate(self.names)
            ]
        body: dict[str, Any] = {"inputs": inputs}
        if self.parameters:
            body["parameters"] = self.parameters
        if self.output:
            body["outputs"] = [{"name": self.output}]
        if self.missing == "nan":
            return json.dumps(body).encode()
        return msgspec.json.encode(body)

    def _tensor(
        self, name: str, shape: Sequence[int], values: NDArray[np.float64]
    ) -> dict[str, Any]:
        data = values.ravel().tolist()
        return {"name": name, "shape": shape, "datatype": self.datatype, "data": data}


def decode_scores(body: bytes, rows: int, version: str, output: str = "") -> NDArray[np.float64]:
    """The scores in a response: float64[N], or float64[N, K] for K > 2 classes.

    Args:
        body: the response.
        rows: N, the rows that were asked about.
        version: the version of the model that must have answered; a server may leave it out.
        output: the output that holds the scores; empty if only one can.

    Raises:
        ResponseError: it is no response, or not to this request.
    """
    try:
        response = _decode_response(body)
    except msgspec.DecodeError as error:
        response = _with_bare_words(body, error)
    if response.model_version not in {None, "", version}:
        raise ResponseError(f"version {response.model_version!r} answered instead of {version!r}")
    found = _chosen(response.outputs, output)
    if found.datatype not in SCORE_DATATYPES:
        raise ResponseError(f"output {found.name!r} is {found.datatype}; expected floats")
    return scores_of(_values(found, rows), rows)


def error_text(body: bytes) -> str:
    """What a server says is wrong: its `error`, or the beginning of whatever it sent."""
    try:
        text = msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:200].decode("utf-8", "replace")
    return " ".join(text.split())


def _chosen(outputs: Sequence[_Output], wanted: str) -> _Output:
    names = [output.name for output in outputs]
    if not wanted:
        candidates = {out.name for out in outputs if out.datatype in SCORE_DATATYPES}
        # A single output is meant, whatever is wrong with it.
        candidates = candidates if len(outputs) != 1 else set(names)
        try:
            wanted = the_score(names, candidates)
        except ValueError as error:
            raise ResponseError(f"{error}; name it with `output`") from error
    found = next((out for out in outputs if out.name == wanted), None)
    if found is None:
        raise ResponseError(f"no output {wanted!r}, only {', '.join(names) or 'none'}")
    return found


def _values(output: _Output, rows: int) -> NDArray[np.float64]:
    """The tensor, in its shape; data may be flat or nested."""
    try:
        values = np.array(_decode_data(output.data), dtype=np.float64)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise ResponseError(f"data of output {output.name!r} are no numbers: {error}") from error
    shape = output.shape
    if values.size != math.prod(shape):
        raise ResponseError(f"output {output.name!r}: {values.size} numbers for shape {shape}")
    if shape[:1] != [rows] or len(shape) > 2:
        raise ResponseError(f"output {output.name!r} has shape {shape} for {rows} rows")
    return values.reshape(shape)


def _with_bare_words(body: bytes, error: Exception) -> _Response:
    """A response with NaN or Infinity in it, which some servers write though JSON has them not."""
    problem = f"no response of the protocol: {error}"
    if b"NaN" not in body and b"Infinity" not in body:
        raise ResponseError(problem) from error
    try:
        plain = json.dumps(json.loads(body, parse_constant=lambda _: None))
        return _decode_response(plain)
    except (ValueError, msgspec.DecodeError, RecursionError) as again:
        raise ResponseError(problem) from again
