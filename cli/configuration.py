"""From `ensemble.toml` and the environment to `streams.settings.Settings`.

Environment variables win over the file: `ENSEMBLE__COMBINER__DEADLINE_MS=80` is `deadline_ms` of
`[combiner]`. Lists and tables are given whole, as JSON: `ENSEMBLE__TOPICS__INPUTS='["a", "b"]'`.
With `_FILE` behind its name a variable holds the path of a file with the value, which is how
secrets come in: `ENSEMBLE__CACHE__URL_FILE`, `ENSEMBLE__KAFKA__PROPERTIES__SASL_PASSWORD_FILE`
(`sasl.password`).

Inside the file a Kafka property `"file:PATH"` is read from that file. Relative paths in the
file are relative to it; `ensemble.bundle`, `worker.state_directory` and those of
`remote` as well.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cli.mistakes import (
    MistakesError,
    Place,
    Schema,
    SchemaTree,
    expected,
    is_secret,
    mistakes_of,
    shown,
    unknown_key,
)
from streams.errors import ConfigurationError
from streams.settings import ModelSettings, Settings

PREFIX = "ENSEMBLE__"
_FILE_SUFFIX = "_FILE"
_FILE_VALUE = "file:"
_PROPERTY_TABLES = ("properties", "consumer", "producer")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def load_settings(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read, override and validate a configuration.

    Raises:
        ConfigurationError: anything is wrong; `str` of it has one line for each mistake.
    """
    document = _read(path)
    schema = Settings.model_json_schema()
    overrides = _Overrides(SchemaTree(schema))
    for name in sorted(environment):
        if name.startswith(PREFIX):
            overrides.add(name, environment[name])
    if overrides.mistakes:
        raise MistakesError(overrides.mistakes)
    overrides.apply(document)
    _resolve_files(document, path)
    try:
        # As JSON, because there a list is a list and 1 is not true: strictness that suits TOML.
        settings = Settings.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        # Its cause would show values, secrets among them.
        raise mistakes_of(error, schema, str(path), overrides.origins) from None
    bundle = path.parent / settings.ensemble.bundle
    ensemble = settings.ensemble.model_copy(update={"bundle": str(bundle.resolve())})
    models = tuple(_with_absolute_paths(model, path.parent) for model in settings.models)
    state = settings.worker.state_directory
    folder = str((path.parent / state).resolve()) if state else ""
    worker = settings.worker.model_copy(update={"state_directory": folder})
    return settings.model_copy(update={"ensemble": ensemble, "models": models, "worker": worker})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            str(path), "not found; write one with `ensemble init`, or name another with --config"
        ) from None
    except OSError as error:
        raise ConfigurationError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), "is no text in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        message = re.sub(r" \(at (.*)\)$", r", \1", str(error))
        raise ConfigurationError(str(path), f"no valid TOML: {message}") from error


class _Overrides:
    """What the environment says, and which variable said it."""

    def __init__(self, tree: SchemaTree) -> None:
        self._tree = tree
        self._values: dict[Place, Any] = {}
        self.origins: dict[Place, str] = {}
        self.mistakes: list[tuple[str, str]] = []

    def add(self, variable: str, text: str) -> None:
        try:
            place, node, from_file = self._find(variable)
            text = _file_text(Path(text)) if from_file else text
            value = self._value(place, node, text)
        except ValueError as error:
            self.mistakes.append((f"environment: {variable}", str(error)))
            return
        if place in self.origins:
            problem = f"the same setting as {self.origins[place]}; expected one of them"
            self.mistakes.append((f"environment: {variable}", problem))
            return
        self._values[place] = value
        self.origins[place] = variable

    def apply(self, document: dict[str, Any]) -> None:
        """Write the values into the document; outer tables before what is inside them."""
        for place in sorted(self._values, key=len):
            table: Any = document
            for part in place[:-1]:
                if not isinstance(table.get(str(part)), dict):
                    table[str(part)] = {}
                table = table[str(part)]
            table[str(place[-1])] = self._values[place]

    def _find(self, variable: str) -> tuple[Place, Schema, bool]:
        """The place a variable means, its schema, and whether the value is in a file."""
        node, place, from_file = self._tree.root, list[str](), False
        parts = variable.removeprefix(PREFIX).split("__")
        for depth, part in enumerate(parts):
            if node.get("type") == "array":
                raise ValueError(
                    f"a list is given whole; expected JSON in {PREFIX}{'__'.join(parts[:depth])}"
                )
            last = depth == len(parts) - 1
            key, from_file = self._key(node, part, last=last)
            child = self._tree.child(node, key)
            if child is None:
                raise ValueError(unknown_key(key, node))
            place.append(key)
            node = child
        return tuple(place), node, from_file

    @staticmethod
    def _key(node: Schema, part: str, *, last: bool) -> tuple[str, bool]:
        """The key of a part of a variable's name, and whether its value is in a file."""
        key = part.lower()
        if key in node.get("properties", {}):
            return key, False
        from_file = last and part.endswith(_FILE_SUFFIX) and part != _FILE_SUFFIX
        if from_file:
            part = part.removesuffix(_FILE_SUFFIX)
            key = part.lower()
        free = node.get("additionalProperties")
        if not isinstance(free, dict):
            return key, from_file
        # Names of features are the user's own; names of Kafka properties have dots, which few
        # shells accept in a variable's name.
        return (part if "$ref" in free else key.replace("_", ".")), from_file

    def _value(self, place: Place, node: Schema, text: str) -> Any:
        """The text of a variable as what its setting is; what does not fit stays a text."""
        kinds = {node.get("type"), *(option.get("type") for option in node.get("anyOf", ()))}
        if kinds & {"array", "object"}:
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                got = shown(text, secret=is_secret((*place, "", ""), node))
                raise ValueError(
                    f"got {got}, expected JSON: {expected(self._tree, node)}"
                ) from None
        if "string" in kinds:
            return text
        if "boolean" in kinds:
            return _BOOLEANS.get(text.lower(), text)
        for kind, number in (("integer", int), ("number", float)):
            if kind in kinds:
                try:
                    return number(text)
                except ValueError:
                    continue
        return text


def _resolve_files(document: dict[str, Any], path: Path) -> None:
    """Replace `file:PATH` in Kafka properties by what the file holds."""
    kafka = document.get("kafka")
    tables = kafka if isinstance(kafka, dict) else {}
    mistakes = []
    for name in _PROPERTY_TABLES:
        properties: Any = tables.get(name)
        for key, value in properties.items() if isinstance(properties, dict) else ():
            if isinstance(value, str) and value.startswith(_FILE_VALUE):
                try:
                    properties[key] = _file_text(path.parent / value.removeprefix(_FILE_VALUE))
                except ValueError as error:
                    mistakes.append((f"{path}: kafka.{name}.{key}", str(error)))
    if mistakes:
        raise MistakesError(mistakes)


def _with_absolute_paths(model: ModelSettings, folder: Path) -> ModelSettings:
    """The files of a model server from anywhere; their content is read where it is needed."""
    remote = model.remote
    if remote is None:
        return model

    def absolute(text: str) -> str:
        return str((folder / text).resolve())

    def place(text: str) -> str:
        kind, _, rest = text.partition(":")
        return f"{kind}:{absolute(rest)}" if kind == "file" else text

    changes: dict[str, Any] = {
        name: absolute(getattr(remote, name))
        for name in ("ca", "certificate", "key")
        if getattr(remote, name)
    }
    changes["headers"] = {name: place(value) for name, value in remote.headers.items()}
    changes["token"] = place(remote.token) if remote.token else None
    return model.model_copy(update={"remote": remote.model_copy(update=changes)})


def _file_text(path: Path) -> str:
    """The content of a file without the line end that editors add. Raises ValueError."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text in UTF-8"
        raise ValueError(f"file {path} cannot be read: {reason}") from None
