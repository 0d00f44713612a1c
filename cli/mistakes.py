"""Mistakes in a configuration, each as one line: where it is, what is there, what was expected.

What was expected is read from the settings' own schema, so that a line can never disagree with
what is accepted.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from streams.errors import ConfigurationError

Place = tuple[str | int, ...]
Schema = dict[str, Any]

# Longer values than this are cut in messages; the place says which one is meant.
_MAX_VALUE_CHARS = 60
# A list of names longer than this is no help.
_MAX_NAMES = 12

# Regular expressions of the settings -> what they mean to a reader.
_PATTERNS = {
    r"^[A-Za-z0-9._-]{1,200}$": "a name of letters, digits, `.`, `_` and `-`",
    r"^(env|file):.+$": "`env:NAME` or `file:PATH`, where the value is",
    r"^https?://[^\s]+$": "a URL that begins with http:// or https://",
}
_ARTICLES = {"string": "a text", "boolean": "true or false", "object": "a table"}


class MistakesError(ConfigurationError):
    """All mistakes of one configuration; prints one line for each."""

    def __init__(self, mistakes: Sequence[tuple[str, str]]) -> None:
        assert mistakes, "an error without a mistake"
        super().__init__(*mistakes[0])
        self.lines = [f"{place}: {problem}" for place, problem in mistakes]

    def __str__(self) -> str:
        return "\n".join(self.lines)


class SchemaTree:
    """The JSON schema of the settings, walked by place."""

    def __init__(self, schema: Schema) -> None:
        self._definitions: dict[str, Schema] = schema.get("$defs", {})
        self.root = schema

    def resolve(self, node: Schema) -> Schema:
        """The node itself, behind its references; of a table that may be left out, the table."""
        while True:
            tables = [option for option in node.get("anyOf", ()) if "$ref" in option]
            if "$ref" in node:
                node = self._definitions[node["$ref"].rpartition("/")[2]]
            elif tables:
                [node] = tables
            else:
                return node

    def child(self, node: Schema, part: str | int) -> Schema | None:
        """What stands under a key or an index; None where nothing can."""
        node = self.resolve(node)
        if isinstance(part, int):
            found = node.get("items")
        else:
            found = node.get("properties", {}).get(part, node.get("additionalProperties"))
        return self.resolve(found) if isinstance(found, dict) else None

    def follow(self, place: Place) -> tuple[Place, Schema]:
        """As much of the place as the schema knows (the rest are tags of unions), and its node."""
        node = self.resolve(self.root)
        for depth, part in enumerate(place):
            child = self.child(node, part)
            if child is None:
                return place[:depth], node
            node = child
        return place, node


def expected(tree: SchemaTree, node: Schema) -> str:
    """What a value may be, in words.

    >>> expected(SchemaTree({}), {"type": "integer", "exclusiveMinimum": 0, "maximum": 64})
    'a whole number greater than 0 and at most 64'
    """
    node = tree.resolve(node)
    if "enum" in node:
        return "one of " + ", ".join(json.dumps(value) for value in node["enum"])
    if "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(expected(tree, option) for option in options))
    kind = node.get("type", "")
    if kind in {"integer", "number"}:
        return ("a whole number" if kind == "integer" else "a number") + _limits(node)
    if kind == "array":
        items = tree.resolve(node.get("items", {}))
        what = "tables" if items.get("type") == "object" else "values"
        if "enum" in items:
            what = "any of " + ", ".join(json.dumps(value) for value in items["enum"])
        return f"a list of {what}" + (", at least one" if node.get("minItems") else "")
    if "pattern" in node:
        return _PATTERNS.get(node["pattern"], f"a text that matches {node['pattern']}")
    return _ARTICLES.get(kind, "another value")


def _limits(node: Schema) -> str:
    words = {
        "exclusiveMinimum": "greater than",
        "minimum": "at least",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
    }
    found = [f"{text} {node[key]:g}" for key, text in words.items() if key in node]
    return " " + " and ".join(found) if found else ""


def mistakes_of(
    error: ValidationError, schema: Schema, file: str, origins: Mapping[Place, str]
) -> MistakesError:
    """Every mistake pydantic found, translated.

    Args:
        error: pydantic's.
        schema: the JSON schema of the settings.
        file: how the user named the file.
        origins: place -> the environment variable that put a value there.
    """
    tree = SchemaTree(schema)
    lines = dict.fromkeys(_translated(error, tree, file, origins))  # unions report one by one
    return MistakesError(list(lines))


def _translated(
    error: ValidationError, tree: SchemaTree, file: str, origins: Mapping[Place, str]
) -> Iterator[tuple[str, str]]:
    found = error.errors(include_url=False)
    for item in found:
        loc: Place = item["loc"]
        if any(other["loc"][: len(loc)] == loc != other["loc"] for other in found):
            continue  # a list without its faulty items may be too short; the items say why
        if item["type"] == "extra_forbidden":
            _, parent = tree.follow(loc[:-1])
            yield where(loc, file, origins), unknown_key(str(loc[-1]), parent)
            continue
        place, node = tree.follow(loc)
        if item["type"] == "value_error":
            yield _rule(place, str(item["ctx"]["error"]), file, origins)
        elif item["type"] == "missing":
            problem = f"missing; expected {expected(tree, node)}"
            yield where(place, file, origins), problem
        else:
            got = shown(item["input"], secret=is_secret(place, node))
            yield where(place, file, origins), f"got {got}, expected {expected(tree, node)}"


def _rule(place: Place, message: str, file: str, origins: Mapping[Place, str]) -> tuple[str, str]:
    """A rule that spans several fields names its place itself, where it is not the table's."""
    if place:
        return where(place, file, origins), message
    named, _, problem = message.partition(": ")
    return f"{file}: {named}", problem


def where(place: Place, file: str, origins: Mapping[Place, str]) -> str:
    """The name a user gave the place: the variable it came from, or the path in the file."""
    for length in range(len(place), 0, -1):
        if variable := origins.get(place[:length]):
            rest = "".join(f".{part}" for part in place[length:])
            return f"environment: {variable}{rest}"
    return f"{file}: " + ".".join(map(str, place))


def unknown_key(key: str, node: Schema) -> str:
    """The problem with a key that does not exist, and the nearest that does."""
    known = sorted(node.get("properties", {}))
    close = difflib.get_close_matches(key.lower(), known, n=1)
    if close:
        return f"unknown key; did you mean `{close[0]}`?"
    names = ", ".join(f"`{name}`" for name in known[:_MAX_NAMES])
    more = " …" if len(known) > _MAX_NAMES else ""
    return f"unknown key; expected one of {names}{more}"


def is_secret(place: Place, node: Schema) -> bool:
    """Whether a value must not be shown: marked so, or a property of the Kafka client."""
    marked = any(option.get("writeOnly") for option in (node, *node.get("anyOf", ())))
    return marked or (place[:1] == ("kafka",) and len(place) > 2)


def shown(value: object, *, secret: bool = False) -> str:
    """A value as its owner wrote it, cut short; a secret is not shown.

    >>> shown("fast"), shown(0), shown("pa55word", secret=True)
    ('"fast"', '0', 'a value that is not shown')
    """
    if secret:
        return "a value that is not shown"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "…"
