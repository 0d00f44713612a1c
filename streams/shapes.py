"""From wanted paths inside JSON objects to a struct that decodes them, and getters for them."""

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from streams.errors import ConfigurationError

Rows = list[tuple[Any, ...]]

# What the JSON library cannot look for.
_UNREADABLE_KEY = re.compile(r'["\\\x00-\x1f]')


class JsonShape:
    """One JSON object on the way to the wanted values; add all paths, then ask for the struct."""

    def __init__(self) -> None:
        self.leaves: dict[str, Any] = {}
        self.required: set[str] = set()
        self.children: dict[str, JsonShape] = {}

    def add(self, path: Sequence[str], type_: Any, *, required: bool = False) -> None:
        """Want the value at a path; an object without a required one does not decode."""
        head, *rest = path
        if required:
            self.required.add(head)
        if rest:
            self.children.setdefault(head, JsonShape()).add(rest, type_, required=required)
        else:
            # A field can be feature and id at once; features come first and their type holds.
            self.leaves.setdefault(head, type_)

    def names(self) -> dict[str, str]:
        """Struct field of each JSON key; keys need not be identifiers."""
        return {key: f"f{i}" for i, key in enumerate([*self.leaves, *self.children])}

    def struct(self, name: str) -> type[msgspec.Struct]:
        """A struct that decodes just what is wanted.

        Raises:
            ConfigurationError: a key is wanted as value and as object, or cannot be looked for.
        """
        names = self.names()
        for key in names:
            if key in self.leaves and key in self.children:
                raise ConfigurationError(
                    "event", f"`{key}` is wanted as a value and as an object with values in it"
                )
            if _UNREADABLE_KEY.search(key):
                raise ConfigurationError(
                    "event", f"the key {key!r} holds a quote, a backslash or a control character"
                )
        fields: list[tuple[str, Any, Any]] = [
            (names[key], type_, msgspec.NODEFAULT if key in self.required else None)
            for key, type_ in self.leaves.items()
        ]
        for key, child in self.children.items():
            inner = child.struct(f"{name}_{names[key]}")
            if key in self.required:
                fields.append((names[key], inner, msgspec.NODEFAULT))
            else:
                # An absent or null parent means that everything in it is missing.
                fields.append((names[key], inner | None, inner()))
        return msgspec.defstruct(
            name,
            fields,
            frozen=True,
            kw_only=True,
            gc=False,  # what JSON holds has no cycles
            rename={field: key for key, field in names.items()},
        )

    def getter(self, path: Sequence[str]) -> str:
        """The dotted attribute path of a JSON path, for operator.attrgetter."""
        head, *rest = path
        name = self.names()[head]
        return f"{name}.{self.children[head].getter(rest)}" if rest else name


def getter_of(path: str) -> Callable[[Any], Any]:
    """Like operator.attrgetter, but a parent that is null makes the value None."""
    quick = operator.attrgetter(path)

    def get(struct: Any) -> Any:
        try:
            return quick(struct)
        except AttributeError:
            return None

    return get if "." in path else quick


def rows_getter_of(shape: JsonShape, paths: Sequence[Sequence[str]]) -> Callable[[list[Any]], Rows]:
    """The values at some JSON paths of many structs of a shape, as fast as can be."""
    count = len(paths)
    if [(key,) for key in shape.leaves][:count] == [tuple(path) for path in paths]:
        values_of = msgspec.structs.astuple
        return lambda structs: [values_of(struct)[:count] for struct in structs]
    getter = tuple_getter_of([shape.getter(path) for path in paths])
    return lambda structs: list(map(getter, structs))


def tuple_getter_of(paths: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The values at several attribute paths, as fast as one call can."""
    getters = [getter_of(path) for path in paths]

    def slowly(struct: Any) -> tuple[Any, ...]:
        return tuple(get(struct) for get in getters)

    if len(paths) == 1:
        return slowly
    quick = operator.attrgetter(*paths)

    def get(struct: Any) -> tuple[Any, ...]:
        try:
            return quick(struct)
        except AttributeError:
            return slowly(struct)

    return get if any("." in path for path in paths) else quick
