"""The shape of the configuration: limits, defaults, and rules that span several fields."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from streams.settings import Settings

SMALLEST: dict[str, Any] = {"models": [{"name": "a"}], "workers": [{"name": "w", "models": ["a"]}]}


def settings(**tables: Any) -> Settings:
    return Settings.model_validate({**SMALLEST, **tables})


def refusal(**tables: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**tables)
    return str(caught.value)


def sections() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = [Settings]
    for field in Settings.model_fields.values():
        inner: Any = field.annotation
        if getattr(inner, "__args__", None):
            inner = inner.__args__[0]
        found.append(inner)
    return found


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_section_refuses_what_it_does_not_know_and_never_changes(
    section: type[BaseModel],
) -> None:
    assert section.model_config["extra"] == "forbid"
    assert section.model_config["frozen"] is True
    assert section.__doc__, "a section says what it is for"


def test_every_number_has_a_limit() -> None:
    """Nothing that counts, waits or listens may be negative."""
    for name, definition in Settings.model_json_schema()["$defs"].items():
        for key, field in definition["properties"].items():
            if field.get("type") in {"integer", "number"}:
                assert {"minimum", "exclusiveMinimum"} & field.keys(), f"{name}.{key}"


def test_every_duration_and_amount_of_time_names_its_unit() -> None:
    units = ("_ms", "_s", "_hours")
    for definition in Settings.model_json_schema()["$defs"].values():
        for key in definition["properties"]:
            if any(word in key for word in ("deadline", "interval", "window", "timeout", "ttl")):
                assert key.endswith(units), key


def test_the_smallest_configuration_is_enough() -> None:
    found = settings()
    assert found.topics.inputs == ("events",)
    assert found.fallback.ladder[-1] == "prior"
    assert found.cache.url.get_secret_value() == "memory://"


def test_the_url_of_the_cache_is_not_shown() -> None:
    found = settings(cache={"url": "redis://:pa55@cache/0"})
    assert "pa55" not in repr(found)


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"models": [{"name": "a"}, {"name": "a"}]}, "`a` is configured twice"),
        ({"workers": []}, "`a` has no worker"),
        ({"workers": [*SMALLEST["workers"], {"name": "w", "models": ["a"]}]}, "`w` twice"),
        ({"workers": [{"name": "w", "models": ["a", "a"]}]}, "`a` has a worker already"),
        ({"workers": [{"name": "w", "models": ["b"]}]}, "no model `b`"),
        ({"models": [{"name": "a", "reserve": True}]}, "all are reserves"),
        ({"topics": {"scored": "predictions"}}, "topic `predictions` has two roles"),
        ({"topics": {"inputs": ["x", "x"]}}, "topic `x` has two roles"),
        (
            {"models": [{"name": "a", "callable": "m:f", "version": "1", "external": True}]},
            "both `callable` and `external`",
        ),
        ({"models": [{"name": "a", "callable": "m:f"}]}, "`callable` without `version`"),
    ],
)
def test_fields_that_contradict_each_other(tables: dict[str, Any], complaint: str) -> None:
    assert complaint in refusal(**tables)


def test_an_external_model_needs_no_worker() -> None:
    found = settings(models=[*SMALLEST["models"], {"name": "b", "external": True}])
    assert [model.name for model in found.models] == ["a", "b"]
