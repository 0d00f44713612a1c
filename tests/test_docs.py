"""The pages say what the code does: tables, examples, commands, links and files are compared.

A rule is a function from the name of a page and its text to what is wrong with it. Each is run on
the pages it is about, and each is shown to object to a spoiled page.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_origin

import msgspec
import pytest
import typer.main
from pydantic import BaseModel

from cli.main import app
from streams import errors
from streams.frames import FrameError, decode_frames
from streams.records import (
    ControlRecord,
    CorrectionRecord,
    Headers,
    HealthRecord,
    ModelState,
    ScoredRecord,
)
from streams.settings import (
    FeatureMapping,
    ModelSettings,
    RemoteSettings,
    Settings,
    WorkerSettings,
)
from streams.signals import CATALOGUE
from tests.test_house import LAYERS, tracked_files

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
EXAMPLES = ["examples/credit/README.md"]

# What a reader writes himself.
READERS_FILES = {"mymodels.py"}
FILE_ENDINGS = (".py", ".md", ".svg", ".yml", ".lock")
# Exit codes that are not of `streams.errors`.
OTHER_EXIT_CODES = {0, 1, 75}

Rule = Callable[[str, str], Iterator[str]]


# -- reading a page ------------------------------------------------------------------------------


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    found = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)
    return re.split(r"^#+ ", found[1], maxsplit=1, flags=re.MULTILINE)[0] if found[1:] else ""


def rows(text: str, first_cell: str) -> list[list[str]]:
    """The cells of each row of the tables whose header begins with this cell."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE):
        header, _, *lines = (re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines())
        if header[0].strip() == first_cell:
            found += [[cell.strip() for cell in line] for line in lines]
    return found


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def differ(what: str, shown: Any, true: Any) -> Iterator[str]:
    missing, extra = sorted(set(true) - set(shown)), sorted(set(shown) - set(true))
    if missing or extra:
        yield f"{what}: missing {missing}, extra {extra}"


# -- rules: commands, files, links ---------------------------------------------------------------


def plain_lines(text: str) -> list[str]:
    """The lines of blocks without a language, which hold commands."""
    found = [block.splitlines() for language, block in blocks(text) if not language]
    return [line.strip() for lines in found for line in lines]


def command_lines(text: str) -> list[str]:
    """Every line of a block, and every span, that is a command of ours; those with … are not."""
    found = [*plain_lines(text), *spans(text)]
    return [line for line in found if line.startswith("ensemble ") and "…" not in line]


def check_commands(_page: str, text: str) -> Iterator[str]:
    """Each command line of `ensemble` is accepted by its parser."""
    for line in command_lines(text):
        command: Any = typer.main.get_command(app)
        arguments = shlex.split(line, comments=True)[1:]
        context = command.make_context("ensemble", [], resilient_parsing=True)
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments.pop(0)]
        # `ensemble topics` in a sentence, and help, are no calls.
        if (hasattr(command, "commands") and not arguments) or arguments == ["--help"]:
            continue
        in_a_sentence = not arguments and line in spans(text)
        try:
            command.make_context(command.name, arguments, context, resilient_parsing=in_a_sentence)
        except Exception as error:  # noqa: BLE001 -- whatever the parser raises
            yield f"{line}: {error}"
        else:
            if hasattr(command, "commands"):
                yield f"{line}: no such command"


def check_make(_page: str, text: str) -> Iterator[str]:
    """Each `make` names a target, each `python` a file that is there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in [*plain_lines(text), *spans(text)]:
        words = shlex.split(line, comments=True) if line.startswith(("make ", "python ")) else []
        if words[:1] == ["make"] and words[1] not in targets:
            yield f"{line}: no such target"
        if words[:1] == ["python"]:
            module = words[2].replace(".", "/") if words[1] == "-m" else ""
            files = [module + ".py", module + "/__main__.py"] if module else [words[1]]
            if not any((ROOT / file).is_file() for file in files):
                yield f"{line}: no such file"


@cache
def everything() -> frozenset[str]:
    """Every tracked file; drawings and locks too, which `tracked_files` leaves out."""
    return frozenset({*tracked_files(), *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.svg"))})


def is_there(form: str) -> bool:
    """Whether a file is called so, in whatever folder."""
    return any(fnmatch(file, each) for file in everything() for each in (form, f"*/{form}"))


def check_files(_page: str, text: str) -> Iterator[str]:
    """Each file and folder that is named in backticks exists."""
    for name in spans(text):
        if not re.fullmatch(r"[\w.*/-]+", name) or name in READERS_FILES:
            continue
        if name.endswith(FILE_ENDINGS):
            if not is_there(name):
                yield f"no file {name}"
        elif name.endswith("/") and not name.startswith("/") and not is_there(f"{name}*"):
            yield f"no folder {name}"


def check_links(page: str, text: str) -> Iterator[str]:
    """Each relative link leads to a file, and to a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = ROOT / PurePosixPath(page).parent / path if path else ROOT / page
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in map(slug, headings(file.read_text(encoding="utf-8"))):
            yield f"{target}: no such heading"


# -- rules: tables -------------------------------------------------------------------------------


def check_layers(_page: str, text: str) -> Iterator[str]:
    """The table of folders is the one that the house enforces."""
    shown = {code(name)[0].rstrip("/"): set(code(may)) for name, _, may in rows(text, "folder")}
    yield from differ("folders", shown, LAYERS)
    for package, allowed in LAYERS.items():
        everything_else = LAYERS.keys() - {package}
        if shown.get(package, set()) != (set() if allowed == everything_else else allowed):
            yield f"{package}: may import {sorted(allowed)}"


def sections_of_settings() -> dict[str, type[BaseModel]]:
    """Heading → the model of its table."""
    lists = {"[[models]]": ModelSettings, "[[workers]]": WorkerSettings}
    tables = {"[event.features.NAME]": FeatureMapping, "[models.remote]": RemoteSettings}
    found: dict[str, type[BaseModel]] = {**lists, **tables}
    for name, field in Settings.model_fields.items():
        if get_origin(field.annotation) is not tuple:
            assert isinstance(field.annotation, type)
            found[f"[{name}]"] = field.annotation
    assert len(found) == len(Settings.model_fields) + len(tables)
    return found


def default_of(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    value = field.default
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    return f"`{json.dumps(value)}`"


def check_settings(_page: str, text: str) -> Iterator[str]:
    """Each setting is there with its default, and no other."""
    for heading, model in sections_of_settings().items():
        shown = {
            name: default for [name], default in
            ((code(row[0]), row[1]) for row in rows(section(text, f"`{heading}`"), "setting"))
        }  # fmt: skip
        yield from differ(heading, shown, model.model_fields)
        for name in shown.keys() & model.model_fields.keys():
            if shown[name] != default_of(model, name):
                yield f"{heading} {name}: {shown[name]}, but it is {default_of(model, name)}"


def check_metrics(_page: str, text: str) -> Iterator[str]:
    """Each metric is there with its kind and its labels, and no other."""
    shown = {code(row[0])[0]: (row[1], tuple(code(row[2]))) for row in rows(text, "metric")}
    yield from differ("metrics", shown, [signal.name for signal in CATALOGUE])
    for signal in CATALOGUE:
        if shown.get(signal.name, (signal.kind, signal.labels)) != (signal.kind, signal.labels):
            yield f"{signal.name}: it is a {signal.kind} by {signal.labels}"


def check_states(_page: str, text: str) -> Iterator[str]:
    yield from differ("states", [row[0] for row in rows(text, "state")], get_args(ModelState))


def check_scored_fields(_page: str, text: str) -> Iterator[str]:
    shown = [code(row[0])[0] for row in rows(section(text, scored_heading(text)), "field")]
    yield from differ("scored record", shown, ScoredRecord.__struct_fields__)


def scored_heading(text: str) -> str:
    return next((name for name in headings(text) if name in {"Consume the scores", "Scored"}), "")


def check_health_fields(_page: str, text: str) -> Iterator[str]:
    shown = {n for row in rows(section(text, "Health"), "field") for n in code(row[0])}
    yield from differ("health record", shown | {"model"}, HealthRecord.__struct_fields__)


def check_headers(_page: str, text: str) -> Iterator[str]:
    names = [v for k, v in vars(Headers).items() if not k.startswith("_") and k != "PREFIX"]
    yield from differ("headers", [code(row[0])[0] for row in rows(text, "header")], names)


def exit_codes() -> dict[int, bool]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    ours = [kind for kind in kinds if issubclass(kind, errors.EnsembleError)]
    return {kind.exit_code: kind.retriable for kind in ours if kind is not errors.EnsembleError}


def check_exit_codes(_page: str, text: str) -> Iterator[str]:
    shown = {int(row[0]): row[2] for row in rows(text, "code")}
    yield from differ("exit codes", shown, exit_codes().keys() | OTHER_EXIT_CODES)
    for number, retriable in exit_codes().items():
        if number in shown and shown[number].startswith("yes") != retriable:
            yield f"exit code {number}: started again? {retriable}"


# -- rules: examples -----------------------------------------------------------------------------


def check_examples(_page: str, text: str) -> Iterator[str]:
    """Each example in JSON is what it claims to be, and TOML is accepted as configuration."""
    for language, block in blocks(text):
        try:
            if language == "json":
                check_json(block)
            elif language == "toml":
                check_toml(block)
        except (ValueError, msgspec.MsgspecError, FrameError) as error:
            yield f"{block.strip()[:60]}: {error}"


def check_json(block: str) -> None:
    keys = json.loads(block).keys()
    kinds = {
        "revision": CorrectionRecord,
        "source": ScoredRecord,
        "combiner": HealthRecord,
        "paused": ControlRecord,
    }
    kind: Any = next((kind for key, kind in kinds.items() if key in keys), None)
    if kind is not None:
        decoded = msgspec.json.decode(block, type=kind)
        unknown = keys - set(kind.__struct_fields__)
        if unknown or decoded is None:
            raise ValueError(f"no such fields: {sorted(unknown)}")
    elif "offsets" in keys:
        decode_frames(block.encode())


def check_toml(block: str) -> None:
    import tomllib

    found = tomllib.loads(block)
    models = found.setdefault("models", [{"name": "own", "external": True}])
    homes = {name for worker in found.get("workers", []) for name in worker["models"]}
    for model in models:
        if model["name"] not in homes and not model.get("external"):
            raise ValueError(f"{model['name']} has no worker")
    Settings.model_validate_json(json.dumps(found))


# -- the pages -----------------------------------------------------------------------------------

# Name → (pages, the rule, how a good page is spoiled: (page, old, new)).
RULES: dict[str, tuple[list[str], Rule, list[tuple[str, str, str]]]] = {
    "commands are accepted": (
        [*PAGES, *EXAMPLES],
        check_commands,
        [
            ("README.md", "ensemble up --embedded\n", "ensemble up --imbedded\n"),
            ("README.md", "ensemble monitor\n", "ensemble watch\n"),
            ("README.md", "ensemble worker models --slot 0\n", "ensemble worker models\n"),
            ("README.md", "ensemble topics create\n", "ensemble topics make\n"),
            ("README.md", "`ensemble pause xgboost`", "`ensemble pause xgboost --now`"),
        ],
    ),
    "make and python find what they are told": (
        PAGES,
        check_make,
        [
            ("README.md", "make demo\n", "make show\n"),
            ("README.md", "python examples/foreign_worker/rules.py", "python examples/rules.py"),
            ("README.md", "`python -m benchmarks.join`", "`python -m benchmarks.joined`"),
        ],
    ),
    "files exist": (
        PAGES,
        check_files,
        [
            ("docs/RELIABILITY.md", "`tests/combiner/test_join.py`", "`tests/test_join.py`"),
            ("docs/ARCHITECTURE.md", "`watchdog.py`", "`dog.py`"),
            ("docs/ARCHITECTURE.md", "`monitor/`", "`monitors/`"),
        ],
    ),
    "links lead somewhere": (
        [*PAGES, *EXAMPLES],
        check_links,
        [
            ("README.md", "](docs/pipeline.svg)", "](pipeline.svg)"),
            ("docs/OPERATIONS.md", "](CONTRACTS.md#exit-codes)", "](CONTRACTS.md#codes)"),
        ],
    ),
    "layers": (
        ["docs/ARCHITECTURE.md"],
        check_layers,
        [
            ("docs/ARCHITECTURE.md", "| `cache/` |", "| `caches/` |"),
            ("docs/ARCHITECTURE.md", "`registry`, `cache` |", "`registry`, `workers` |"),
        ],
    ),
    "settings": (
        ["docs/OPERATIONS.md"],
        check_settings,
        [
            ("docs/OPERATIONS.md", "| `deadline_ms` |", "| `deadline` |"),
            ("docs/OPERATIONS.md", "| `hang_ms` | `10000` |", "| `hang_ms` | `1000` |"),
            ("docs/OPERATIONS.md", "### `[fallback]`", "### `[ladder]`"),
        ],
    ),
    "metrics": (
        ["docs/OPERATIONS.md"],
        check_metrics,
        [
            ("docs/OPERATIONS.md", "| `ensemble_batch_rows` |", "| `ensemble_rows` |"),
            (
                "docs/OPERATIONS.md",
                "| `ensemble_pending_events` | gauge |",
                "| `ensemble_pending_events` | counter |",
            ),
        ],
    ),
    "health states": (
        ["docs/OPERATIONS.md"],
        check_states,
        [("docs/OPERATIONS.md", "| PROBING |", "| TRYING |")],
    ),
    "scored record": (
        ["README.md", "docs/CONTRACTS.md"],
        check_scored_fields,
        [
            ("README.md", "| `cached_age_ms` |", "| `age_ms` |"),
            ("docs/CONTRACTS.md", "| `confidence` |", "| `sure` |"),
        ],
    ),
    "health record": (
        ["docs/CONTRACTS.md"],
        check_health_fields,
        [("docs/CONTRACTS.md", "| `late` | answers since", "| `later` | answers since")],
    ),
    "dead-letter headers": (
        ["docs/CONTRACTS.md"],
        check_headers,
        [("docs/CONTRACTS.md", "| `__ensemble.errors.stage` |", "| `__ensemble.stage` |")],
    ),
    "exit codes": (
        ["docs/CONTRACTS.md"],
        check_exit_codes,
        [
            ("docs/CONTRACTS.md", "| 8 | a model", "| 9 | a model"),
            ("docs/CONTRACTS.md", "unreadable | no |", "unreadable | yes |"),
        ],
    ),
    "examples": (
        PAGES,
        check_examples,
        [
            ("README.md", '"latency_ms":8.0', '"latency":8.0'),
            ("docs/CONTRACTS.md", '"offsets": [1201, 1202, 1203]', '"offsets": [1201, 1202]'),
            ("docs/CONTRACTS.md", '"paused":true}\n', '"paused":1}\n'),
            ("README.md", 'models = ["small_limit"]', 'models = ["other"]'),
            ("README.md", "external = true\n", "foreign = true\n"),
        ],
    ),
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rule", "page"), [(rule, page) for rule, (pages, _, _) in RULES.items() for page in pages]
)
def test_the_page_is_true(rule: str, page: str) -> None:
    found = list(RULES[rule][1](page, text_of(page)))
    assert not found, "\n".join([f"{page}:", *found])


@pytest.mark.parametrize(
    ("rule", "page", "old", "new"),
    [(rule, *spoiled) for rule, (_, _, examples) in RULES.items() for spoiled in examples],
)
def test_the_rule_objects_to_a_spoiled_page(rule: str, page: str, old: str, new: str) -> None:
    text = text_of(page)
    assert old in text, "the page no longer holds what is spoiled here"
    assert list(RULES[rule][1](page, text.replace(old, new)))


def test_there_is_something_to_check() -> None:
    assert {"README.md", "docs/OPERATIONS.md", "docs/CONTRACTS.md"} <= set(PAGES)
    assert len(command_lines(text_of("README.md"))) >= 15
    assert len(command_lines(text_of("docs/OPERATIONS.md"))) >= 8


def test_the_binary_frame_on_the_page_is_one() -> None:
    """The numbers of the example are those that the code reads."""
    page = section(text_of("docs/CONTRACTS.md"), "Binary, between our own processes")
    [example] = [block for language, block in blocks(page) if language == "text"]
    lines = re.findall(r"^ ((?:[0-9a-f]{2} +)+[0-9a-f]{2})", example, re.MULTILINE)
    raw = [bytes.fromhex(line) for line in lines]
    names = re.findall(r'"([^"]*)"', example)
    value = msgspec.msgpack.encode([1, *names[:3], 2, *raw, 1, {1: names[3]}, [1.5, 0.8]])
    (frame,) = decode_frames(value)
    assert frame.offsets.tolist() == [1201, 1202]
    assert frame.scores[0] == 0.91
    assert frame.refusals == {1: "returned NaN"}
    assert frame.model == "xgboost"


def test_the_drawing_is_readable_in_both_modes() -> None:
    """It has a ground of its own, and each colour of a light page has its dark counterpart."""
    drawing = (ROOT / "docs" / "pipeline.svg").read_text(encoding="utf-8")
    light, _, dark = drawing.partition("@media (prefers-color-scheme: dark)")
    for name in ("page", "box", "inner", "topic", "line", "head", "text", "small"):
        assert f".{name} " in light, name
        assert f".{name} " in dark.partition("</style>")[0], name
    assert 'class="page"' in drawing
