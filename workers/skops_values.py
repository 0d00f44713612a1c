"""A skops file as plain values: attributes and arrays, without scikit-learn and its classes.

Importing scikit-learn and skops costs more processor time than everything else that a worker does
before it is ready. A fitted linear model is a few arrays, and they stand in the file as such.
Nothing is constructed here, so nothing can be run; what is no plain value becomes `UNKNOWN`.
"""

import importlib.metadata
import io
import json
import zipfile
from typing import Any

import numpy as np

_TRUSTED_PACKAGES = ("sklearn.", "numpy", "builtins")


class _Unknown:
    """Something that is no plain value."""


UNKNOWN = _Unknown()


def read_values(data: bytes) -> Any:
    """What a skops file holds; each object of a class C as attributes of a bare class named C.

    `UNKNOWN` if the file holds anything of another package, or anything that another version of
    scikit-learn has written: that is for the library itself to judge.

    Raises:
        OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile: it is no such file.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _Reader(archive).read(json.loads(archive.read("schema.json")))


class _StrangeError(Exception):
    """The file is not for this reader."""


class _Reader:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._version = importlib.metadata.version("scikit-learn")
        self._known: dict[int, Any] = {}

    def read(self, node: dict[str, Any]) -> Any:
        try:
            return self._value(node)
        except _StrangeError:
            return UNKNOWN

    def _value(self, node: dict[str, Any]) -> Any:
        if not str(node.get("__module__", "builtins")).startswith(_TRUSTED_PACKAGES):
            raise _StrangeError
        identity = node.get("__id__")
        if node["__loader__"] == "CachedNode":
            return self._known[identity]  # type: ignore[index]
        value = self._read(node)
        if identity is not None:
            self._known[identity] = value
        return value

    def _read(self, node: dict[str, Any]) -> Any:
        content = node.get("content")
        match node["__loader__"]:
            case "JsonNode":
                return json.loads(str(content))
            case "ListNode":
                return [self._value(item) for item in content or ()]
            case "TupleNode":
                return tuple(self._value(item) for item in content or ())
            case "DictNode":
                # A key that is no text is written as one; the attributes of objects are all texts.
                return {name: self._value(item) for name, item in (content or {}).items()}
            case "ObjectNode" if content:
                return self._object(str(node["__class__"]), self._value(content))
            case "NdArrayNode" if node.get("type") == "numpy":
                array = np.load(io.BytesIO(self._archive.read(node["file"])), allow_pickle=False)
                return array if node["__class__"] == "ndarray" else array[()]
            case _:
                return UNKNOWN

    def _object(self, name: str, attributes: dict[str, Any]) -> Any:
        if attributes.get("_sklearn_version", self._version) != self._version:
            raise _StrangeError
        return type(name, (), attributes)()
