"""Reading a configuration: file, environment, and one line for each mistake."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli.configuration import load_settings
from cli.init import DEFAULT_MODELS, template
from lab.members import MEMBERS
from streams.errors import ConfigurationError
from streams.settings import Settings

SMALL = """
[[models]]
name = "a"

[[workers]]
name = "w"
models = ["a"]
"""


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "ensemble.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment)


def lines(tmp_path: Path, text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, **environment)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (
                '[combiner]\ndeadline_ms = "fast"',
                (
                    'ensemble.toml: combiner.deadline_ms: got "fast", '
                    "expected a whole number greater than 0"
                ),
            ),
            (
                "[combiner]\ndeadline_ms = 0",
                (
                    "ensemble.toml: combiner.deadline_ms: got 0, "
                    "expected a whole number greater than 0"
                ),
            ),
            (
                "[combiner]\nexplain = 1",
                "ensemble.toml: combiner.explain: got 1, expected true or false",
            ),
            (
                "[combiner]\nthreshold = 1.5",
                (
                    "ensemble.toml: combiner.threshold: got 1.5, "
                    "expected a number at least 0 and at most 1"
                ),
            ),
            (
                '[combiner]\ndelivery = "mostly"',
                (
                    'ensemble.toml: combiner.delivery: got "mostly", expected one of '
                    '"exactly_once", "at_least_once"'
                ),
            ),
            (
                "[combiner]\ndeadline = 100",
                "ensemble.toml: combiner.deadline: unknown key; did you mean `deadline_ms`?",
            ),
            (
                "[ensemble]\nzzz = 1",
                "ensemble.toml: ensemble.zzz: unknown key; expected one of `bundle`, `name`",
            ),
            (
                "[combinr]",
                "ensemble.toml: combinr: unknown key; did you mean `combiner`?",
            ),
            (
                "combiner = 3",
                "ensemble.toml: combiner: got 3, expected a table",
            ),
            (
                '[topics]\ninputs = "events"',
                (
                    'ensemble.toml: topics.inputs: got "events", '
                    "expected a list of values, at least one"
                ),
            ),
            (
                '[topics]\nscored = "my topic"',
                (
                    'ensemble.toml: topics.scored: got "my topic", '
                    "expected a name of letters, digits, `.`, `_` and `-`"
                ),
            ),
            (
                '[topics]\nscored = "events"',
                "ensemble.toml: topics: topic `events` has two roles; expected distinct names",
            ),
            (
                '[fallback]\nladder = ["cached", "guess"]',
                (
                    'ensemble.toml: fallback.ladder.1: got "guess", '
                    'expected one of "partial", "reserve", "cached", "prior"'
                ),
            ),
            (
                '[fallback]\nprior = "half"',
                'ensemble.toml: fallback.prior: got "half", expected a number',
            ),
            (
                "[kafka.properties]\n'sasl.password' = ['pa55']",
                (
                    "ensemble.toml: kafka.properties.sasl.password: got a value that is not shown, "
                    "expected a text or a whole number or a number or true or false"
                ),
            ),
            (
                "[cache]\nurl = 55",
                "ensemble.toml: cache.url: got a value that is not shown, expected a text",
            ),
            (
                '[kafka.properties]\n"sasl.password" = "file:nowhere"',
                (
                    "ensemble.toml: kafka.properties.sasl.password: "
                    "file nowhere cannot be read: No such file or directory"
                ),
            ),
            (
                '[[models]]\nname = "z"\nexternal = true\nweight = inf',
                "ensemble.toml: models.0.weight: got Infinity, expected a number at least 0",
            ),
            (
                "[worker]\nmax_batch = 20_001",
                (
                    "ensemble.toml: worker.max_batch: got 20001, "
                    "expected a whole number greater than 0 and at most 20000"
                ),
            ),
            (
                "[combiner]\ndeadline_ms = 1979-05-27",
                (
                    'ensemble.toml: combiner.deadline_ms: got "1979-05-27", '
                    "expected a whole number greater than 0"
                ),
            ),
        ],
    )
    def test_one_line_says_where_what_and_what_was_expected(
        self, tmp_path: Path, text: str, line: str
    ) -> None:
        assert lines(tmp_path, text + "\n" + SMALL) == [line]

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", "ensemble.toml: models: missing; expected a list of tables, at least one"),
            (
                "models = []",
                "ensemble.toml: models: got [], expected a list of tables, at least one",
            ),
            (
                "[[models]]\nweight = 1.0",
                (
                    "ensemble.toml: models.0.name: missing; "
                    "expected a name of letters, digits, `.`, `_` and `-`"
                ),
            ),
            (
                '[[models]]\nname = "a"',
                (
                    "ensemble.toml: models: `a` has no worker; expected it under a [[workers]] "
                    "table, or `external = true` if somebody else scores it"
                ),
            ),
            (
                '[[models]]\nname = "a"\ncallable = "m:f"',
                (
                    "ensemble.toml: models.0: `callable` without `version`; "
                    "expected the version of its code"
                ),
            ),
            (
                SMALL + 'extra = ["a"]',
                (
                    "ensemble.toml: workers.0.extra: unknown key; "
                    "expected one of `models`, `name`, `processes`"
                ),
            ),
            (
                SMALL.replace('models = ["a"]', 'models = ["b"]'),
                "ensemble.toml: workers.w.models: no model `b`; expected some of a",
            ),
            (
                SMALL + '[[workers]]\nname = "v"\nmodels = ["a"]',
                "ensemble.toml: workers.v.models: `a` has a worker already",
            ),
            (
                '[[models]]\nname = "a"\nexternal = true\nreserve = true',
                "ensemble.toml: models: all are reserves; expected at least one member",
            ),
            (
                "[combiner\n",
                (
                    "ensemble.toml: no valid TOML: Expected ']' at the end of a table declaration, "
                    "line 1, column 10"
                ),
            ),
        ],
    )
    def test_the_whole_file_is_judged_too(self, tmp_path: Path, text: str, line: str) -> None:
        assert lines(tmp_path, text) == [line]

    def test_every_mistake_has_its_line(self, tmp_path: Path) -> None:
        text = '[combiner]\ndeadline_ms = "fast"\nstrateg = 1\n[cache]\nttl_s = 0\n' + SMALL
        assert lines(tmp_path, text) == [
            (
                'ensemble.toml: combiner.deadline_ms: got "fast", '
                "expected a whole number greater than 0"
            ),
            "ensemble.toml: combiner.strateg: unknown key; did you mean `strategy`?",
            "ensemble.toml: cache.ttl_s: got 0, expected a whole number greater than 0",
        ]

    def test_a_long_value_is_cut(self, tmp_path: Path) -> None:
        [line] = lines(tmp_path, f'[combiner]\ndelivery = "{"x" * 500}"\n' + SMALL)
        assert len(line) < 250
        assert "x…" in line

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "none.toml"
        with pytest.raises(ConfigurationError) as caught:
            load_settings(path, {})
        assert str(caught.value) == (
            f"{path}: not found; write one with `ensemble init`, or name another with --config"
        )

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "ensemble.toml"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError, match=r"ensemble\.toml: is no text in UTF-8"):
            load_settings(path, {})

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
            load_settings(tmp_path, {})


class TestEnvironment:
    @pytest.mark.parametrize(
        ("name", "value", "place", "expected"),
        [
            ("COMBINER__DEADLINE_MS", "80", "combiner.deadline_ms", 80),
            ("COMBINER__THRESHOLD", "0.25", "combiner.threshold", 0.25),
            ("COMBINER__EXPLAIN", "true", "combiner.explain", True),
            ("COMBINER__STRATEGY", "median", "combiner.strategy", "median"),
            ("FALLBACK__PRIOR", "0.2", "fallback.prior", 0.2),
            ("ENSEMBLE__NAME", "007", "ensemble.name", "007"),
            ("TOPICS__INPUTS", '["a", "b"]', "topics.inputs", ("a", "b")),
        ],
    )
    def test_a_variable_wins_over_the_file(
        self, tmp_path: Path, name: str, value: str, place: str, expected: Any
    ) -> None:
        text = "[combiner]\ndeadline_ms = 70\n" + SMALL
        found: Any = load(tmp_path, text, **{f"ENSEMBLE__{name}": value})
        for part in place.split("."):
            found = getattr(found, part)
        assert found == expected

    def test_models_are_given_whole(self, tmp_path: Path) -> None:
        models = '[{"name": "a"}, {"name": "b", "external": true}]'
        settings = load(tmp_path, SMALL, ENSEMBLE__MODELS=models)
        assert [model.name for model in settings.models] == ["a", "b"]

    def test_names_of_kafka_properties_have_dots(self, tmp_path: Path) -> None:
        settings = load(tmp_path, SMALL, ENSEMBLE__KAFKA__PROPERTIES__SASL_USERNAME="me")
        assert settings.kafka.properties == {"sasl.username": "me"}

    def test_a_table_of_the_environment_is_refined_by_a_value(self, tmp_path: Path) -> None:
        settings = load(
            tmp_path,
            SMALL,
            ENSEMBLE__KAFKA__CONSUMER='{"session.timeout.ms": 1}',
            ENSEMBLE__KAFKA__CONSUMER__FETCH_MIN_BYTES="2",
        )
        assert settings.kafka.consumer == {"session.timeout.ms": 1, "fetch.min.bytes": "2"}

    def test_names_of_features_stay_as_they_are(self, tmp_path: Path) -> None:
        settings = load(tmp_path, SMALL, ENSEMBLE__EVENT__FEATURES__LIMIT_BAL__PATH="a.b")
        assert settings.event.features["LIMIT_BAL"].path == "a.b"

    def test_a_file_holds_the_value(self, tmp_path: Path) -> None:
        secret = tmp_path / "url"
        secret.write_text("redis://:pa55@cache/0\n", encoding="utf-8")
        password = tmp_path / "password"
        password.write_text("pa56\n", encoding="utf-8")
        settings = load(
            tmp_path,
            SMALL,
            ENSEMBLE__CACHE__URL_FILE=str(secret),
            ENSEMBLE__KAFKA__PROPERTIES__SASL_PASSWORD_FILE=str(password),
        )
        assert settings.cache.url.get_secret_value() == "redis://:pa55@cache/0"
        assert settings.kafka.properties == {"sasl.password": "pa56"}

    @pytest.mark.parametrize(
        ("name", "value", "line"),
        [
            (
                "COMBINER__DEADLINE_MS",
                "fast",
                'got "fast", expected a whole number greater than 0',
            ),
            ("COMBINER__DEADLINE", "1", "unknown key; did you mean `deadline_ms`?"),
            ("COMBINER__EXPLAIN", "maybe", 'got "maybe", expected true or false'),
            (
                "MODELS__0__WEIGHT",
                "1",
                "a list is given whole; expected JSON in ENSEMBLE__MODELS",
            ),
            (
                "TOPICS__INPUTS",
                "a,b",
                'got "a,b", expected JSON: a list of values, at least one',
            ),
            (
                "KAFKA__PROPERTIES",
                "pa55",
                "got a value that is not shown, expected JSON: a table",
            ),
            (
                "CACHE__URL_FILE",
                "nowhere",
                "file nowhere cannot be read: No such file or directory",
            ),
        ],
    )
    def test_a_mistake_names_the_variable(
        self, tmp_path: Path, name: str, value: str, line: str
    ) -> None:
        found = lines(tmp_path, SMALL, **{f"ENSEMBLE__{name}": value})
        assert found == [f"environment: ENSEMBLE__{name}: {line}"]

    def test_a_mistake_inside_json_names_variable_and_place(self, tmp_path: Path) -> None:
        models = '[{"name": "a", "weight": -1}]'
        assert lines(tmp_path, SMALL, ENSEMBLE__MODELS=models) == [
            "environment: ENSEMBLE__MODELS.0.weight: got -1, expected a number at least 0"
        ]

    def test_a_setting_and_its_file_contradict_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "url").write_text("memory://", encoding="utf-8")
        found = lines(
            tmp_path,
            SMALL,
            ENSEMBLE__CACHE__URL="memory://",
            ENSEMBLE__CACHE__URL_FILE=str(tmp_path / "url"),
        )
        assert found == [
            (
                "environment: ENSEMBLE__CACHE__URL_FILE: the same setting as "
                "ENSEMBLE__CACHE__URL; expected one of them"
            )
        ]

    def test_other_variables_are_nobodys_business(self, tmp_path: Path) -> None:
        load(tmp_path, SMALL, ENSEMBLE_LOG="debug", HOME="x")


class TestPaths:
    def test_the_bundle_is_relative_to_the_file(self, tmp_path: Path) -> None:
        settings = load(tmp_path, '[ensemble]\nbundle = "b/c"\n' + SMALL)
        assert settings.ensemble.bundle == str(tmp_path / "b" / "c")

    def test_an_absolute_bundle_stays(self, tmp_path: Path) -> None:
        settings = load(tmp_path, '[ensemble]\nbundle = "/srv/bundle"\n' + SMALL)
        assert settings.ensemble.bundle == "/srv/bundle"

    def test_a_property_is_read_from_a_file_beside_the_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("pa55\n", encoding="utf-8")
        text = '[kafka.properties]\n"sasl.password" = "file:password"\n' + SMALL
        assert load(tmp_path, text).kafka.properties == {"sasl.password": "pa55"}

    def test_an_infinite_limit_is_none(self, tmp_path: Path) -> None:
        text = SMALL.replace('name = "a"', 'name = "a"\nmaximum = inf')
        assert load(tmp_path, text).models[0].maximum == float("inf")


class TestTemplate:
    def test_it_loads_and_names_what_training_makes(self, tmp_path: Path) -> None:
        settings = load(tmp_path, template())
        assert tuple(model.name for model in settings.models) == tuple(MEMBERS) == DEFAULT_MODELS
        assert settings.workers[0].models == DEFAULT_MODELS

    def test_every_default_that_is_shown_is_the_default(self, tmp_path: Path) -> None:
        document = tomllib.loads(uncommented(template()))
        defaults = Settings.model_validate({"models": [{"name": "a", "external": True}]})
        for section, table in document.items():
            if section in {"models", "workers"}:
                continue
            for key, shown in table.items():
                actual = getattr(getattr(defaults, section), key)
                if (section, key) == ("cache", "url") or actual is None:
                    continue  # the one suggests Redis, the others have no default
                assert (list(actual) if isinstance(actual, tuple) else actual) == shown, key

    def test_every_setting_is_shown(self) -> None:
        document = tomllib.loads(uncommented(template()))
        for section, field in Settings.model_fields.items():
            assert section in document
            if section not in {"models", "workers"}:
                inner: Any = field.annotation
                assert set(document[section]) == set(inner.model_fields), section
        for key in Settings.model_json_schema()["$defs"]["ModelSettings"]["properties"]:
            assert key in template(), key


def uncommented(text: str) -> str:
    """The template with its commented defaults in force."""
    keys = tuple(
        f"# {key} = "
        for field in Settings.model_fields.values()
        for key in getattr(field.annotation, "model_fields", {})
    )
    return "\n".join(
        line.removeprefix("# ") if line.startswith(keys) else line for line in text.splitlines()
    )
