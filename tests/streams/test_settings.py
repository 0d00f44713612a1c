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


HEAVY: dict[str, Any] = {
    "models": [{"name": name, "external": True} for name in "abr"],
    "workers": [],
    "cascade": {"heavy": ["b"]},
}


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"cascade": {"heavy": ["x"]}}, "cascade.heavy: no model `x`; expected some of a, b, r"),
        ({"cascade": {"heavy": ["a", "b", "r"]}}, "cascade.heavy: all members are heavy"),
        ({"cascade": {"low": 0.3}}, "no `heavy` models"),
        ({"cascade": {"heavy": ["b"], "low": 0.8}}, "low 0.8 is above high 0.75"),
        ({"topics": {"inputs": ["escalations"]}}, "topic `escalations` has two roles"),
        ({"combiner": {"quorum": "certain"}}, 'combiner.quorum: "certain" together with'),
        ({"selection": {"method": "knora_union"}}, 'selection.method: "knora_union" together'),
        ({"combiner": {"strategy": "stacking_with_features"}}, "combiner.strategy: `stacking_with"),
        ({"certainty": {"promise": True}}, "certainty.promise: true together with a cascade"),
        (
            {"models": [{"name": "a", "external": True},
                        {"name": "b", "external": True, "reserve": True}]},
            "cascade.heavy: `b` is a reserve",
        ),
        (
            {"models": [{"name": "a"}, {"name": "b"}],
             "workers": [{"name": "w", "models": ["a", "b"]}]},
            "workers.w.models: `b` is heavy in the cascade and `a` is not",
        ),
    ],
)  # fmt: skip
def test_a_cascade_that_does_not_fit(tables: dict[str, Any], complaint: str) -> None:
    assert complaint in refusal(**{**HEAVY, **tables})


def test_heavy_models_read_what_is_escalated() -> None:
    found = settings(
        models=[{"name": "a"}, {"name": "b"}],
        workers=[{"name": "v", "models": ["a"]}, {"name": "w", "models": ["b"]}],
        cascade={"heavy": ["b"]},
    )
    topics = found.topics
    reads = [
        found.cascade.read_by(worker.models, topics.inputs, topics.escalations)
        for worker in found.workers
    ]
    assert reads == [("events",), ("escalations",)]


def test_without_a_cascade_a_topic_may_be_called_escalations() -> None:
    assert not settings(topics={"inputs": ["escalations"]}).cascade.on


def test_a_configuration_that_was_written_out_is_accepted_again() -> None:
    for found in (settings(), settings(**HEAVY)):
        assert Settings.model_validate_json(found.model_dump_json()).cascade == found.cascade


def test_an_external_model_needs_no_worker() -> None:
    found = settings(models=[*SMALLEST["models"], {"name": "b", "external": True}])
    assert [model.name for model in found.models] == ["a", "b"]
