"""The rules of the house, as tests: layering, purity, sizes, and what no tracked file contains.

A rule is a function from one file to its violations. Each is run on the whole house, and each is
shown to object to a bad example and to accept a good one: a rule that cannot fail guards nothing.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Package -> what it may import beside itself.
LAYERS: dict[str, set[str]] = {
    "streams": set(),
    "registry": {"streams"},
    "workers": {"streams", "registry"},
    "cache": {"streams"},
    "combiner": {"streams", "registry", "cache"},
    "monitor": {"streams"},
    "lab": {"streams", "registry", "workers", "combiner"},
    "simulation": {"streams", "registry", "workers", "cache", "combiner"},
    "replay": {"streams", "registry", "workers", "cache", "combiner"},
    "cli": {
        *("streams", "registry", "workers", "cache", "combiner", "monitor", "lab", "simulation"),
        "replay",
    },
    "chaos": {"streams", "registry", "cli"},
}

# Package -> (pure modules, shells). Each module is in exactly one of the two;
# docs/ARCHITECTURE.md shows the same table.
MODULES: dict[str, tuple[str, str]] = {
    "streams": (
        (
            "errors beginnings outages standstill instants features shapes events frames records "
            "headers columns signals breaker escalations unconfirmed"
        ),
        (
            "kinds cascades settings client consumers clock interpreter guard metrics bootstrap "
            "lifeline pulse offsets awaited placement membership source sink reader stretches "
            "switch admin app mapping embedded/*"
        ),
    ),
    "registry": ("manifest certainty competence", "bundle"),
    "workers": (
        "batching scoring tracking protocol tensors inference suspicion pressure quickness",
        (
            "adapters/* loading lean skops_values niceness crew marks examiner publishing lane "
            "rounds agents feed watchdog service"
        ),
    ),
    "combiner": (
        (
            "join rows overtaking ahead quorum answers settled window intake core tally cutting "
            "outcome decision encoding health fallback rewinding waiting verdicts "
            "calibration calibrators/* selections subsets recalibration facts refinement "
            "conformal confidence explanation latency telling corrections "
            "hindsight limits output shipment traces throttle cascade identity escalating "
            "selection/* strategies/*"
        ),
        (
            "service arrivals back_pressure outbox outbox_config delivery hanging published "
            "escalations memory health_report observing assembly refining catalogue process"
        ),
    ),
    "cache": (
        "keys protocol latest",
        "memory redis_store write_behind bounded guarded opening metered prediction_cache",
    ),
    "monitor": ("board", "service"),
    "simulation": (
        (
            "clock log group journal faults inputs process outbox combining working world "
            "evidence questions checkers schedules oracle"
        ),
        "",
    ),
    "chaos": (
        "verdict",
        (
            "proxy refusals reader load plan models models_bad poison processes stage wrapper "
            "goals/* faults storm __main__"
        ),
    ),
    "replay": (
        "bounds letters done timeline again recorded table ledger",
        "reading finding explaining resend scoring output relive run",
    ),
    "lab": ("", "*"),
    "cli": ("", "*"),
}

# What pure modules may import from outside: no I/O, no clock, no chance, no threads.
PURE_IMPORTS = {
    *("abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "enum"),
    *("functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "string"),
    *("struct", "types", "typing", "zlib", "msgspec", "numpy", "base64", "binascii"),
}
# The standard library has some pure names in impure modules.
PURE_NAMES = {
    "pathlib": {"PurePath", "PurePosixPath"},
    "signal": {"Signals"},
    "urllib.parse": {"quote"},
}
# Calls by which a pure module would read the clock, chance or the world.
IMPURE_CALLS = re.compile(
    r"(^|\.)(now|utcnow|today|fromtimestamp)$|^(np|numpy)\.random\.(?!default_rng$)"
    r"|^(np|numpy)\.(load|save|savez|loadtxt|fromfile|memmap)$|^(open|print|input|exec|eval)$"
)

MAX_MODULE_LINES = 400  # a file one reads in one go
MAX_FUNCTION_LINES = 60  # a function one sees at once, its docstring included

# Modules that load what can execute code -> why that is safe there.
PICKLE_ALLOWED: dict[str, str] = {}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}

# Written so that they do not match themselves: these rules read this file too.
MARKERS = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b|\bfor no[w]\b")
REGISTRIES = re.compile(
    r"\b(pyp[i]|pythonhoste[d]|mave[n]|sonatyp[e]|mvnrepositor[y]|anacond[a]|npmj[s]|crate[s]"
    r"|rubygem[s])"
    r"(\.apache)?\.(org|com|io)\b"
)
MACHINE_PATHS = re.compile(r"(?<![\w.})$/-])/(work|root|home|Users|tmp)/\w")
# Nobody writes these by hand.
GENERATED = ("*.lock", "LICENSE", "*.gz", "*.parquet", "*.png", "*.svg")

Rule = Callable[[str, str], list[str]]


@cache
def tracked_files() -> list[str]:
    """Every file of the repository that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = (name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
    return [name for name in names if not any(fnmatch(name, form) for form in GENERATED)]


def in_packages(name: str) -> bool:
    return name.endswith(".py") and name.partition("/")[0] in LAYERS


def kind(name: str) -> str:
    """`pure`, `shell`, or what is wrong with the module's place in the table."""
    package, _, rest = name.removesuffix(".py").partition("/")
    found = [
        label
        for label, forms in zip(("pure", "shell"), MODULES[package], strict=True)
        if any(fnmatch(rest, form) for form in forms.split())
    ]
    return found[0] if len(found) == 1 else f"listed {len(found)} times"


def dotted(node: ast.expr) -> str:
    """`a.b.c` for an attribute chain, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(source: str) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def imports(source: str) -> Iterator[tuple[str, str]]:
    """(module, imported name or an empty string) for each import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), item.name) for item in node.names)


def module_file(module: str, name: str) -> str:
    """The file, within the repository, that `from module import name` reads."""
    for path in (f"{module}.{name}", module):
        file = path.replace(".", "/") + ".py"
        if (ROOT / file).is_file():
            return file
    return module.replace(".", "/") + "/__init__.py"


def check_layering(name: str, source: str) -> list[str]:
    package = name.partition("/")[0]
    forbidden = LAYERS.keys() - LAYERS[package] - {package} | {"tests"}
    return [
        f"imports {module}, which {package} may not"
        for module, _ in imports(source)
        if module.partition(".")[0] in forbidden or module.startswith(".")
    ]


def check_listed(name: str, source: str) -> list[str]:
    """A package's own `__init__` holds a docstring; every other module is in the table."""
    if name.count("/") == 1 and name.endswith("/__init__.py"):
        tree = ast.parse(source)
        documented = ast.get_docstring(tree) is not None
        return ["holds more than a docstring"] if len(tree.body) > documented else []
    found = kind(name)
    return [] if found in {"pure", "shell"} else [f"{found} in MODULES (tests/test_house.py)"]


def check_purity(name: str, source: str) -> list[str]:
    if kind(name) != "pure":
        return []
    return [*_impure_imports(source), *_impure_calls(source)]


def _impure_imports(source: str) -> Iterator[str]:
    for module, item in imports(source):
        top = module.partition(".")[0]
        if top in LAYERS:
            target = module_file(module, item)
            if kind(target) != "pure":
                yield f"imports {target}, which is not pure"
        elif top not in PURE_IMPORTS and item not in PURE_NAMES.get(module, ()):
            yield f"imports {module}, which is not pure"


def _impure_calls(source: str) -> Iterator[str]:
    for call, function in calls(source):
        if IMPURE_CALLS.search(function):
            yield f"calls {function}"
        if function.endswith("default_rng") and not (call.args or call.keywords):
            yield "draws random numbers without a seed"


def check_sizes(name: str, source: str) -> list[str]:
    lines = len(source.splitlines())
    found = [f"has {lines} lines"] if lines > MAX_MODULE_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"line {node.lineno}: {node.name} has {length} lines")
    return found


def check_unfinished(name: str, source: str) -> list[str]:
    names = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    return [
        f"line {node.lineno}: raises or names {node.id}"
        for node in names
        if node.id == "NotImplementedError"
    ]


def check_print(name: str, source: str) -> list[str]:
    if name.startswith("cli/"):
        return []
    return [f"line {call.lineno}: prints" for call, name in calls(source) if name == "print"]


def check_pickle(name: str, source: str) -> list[str]:
    if name in PICKLE_ALLOWED:
        return []
    found = [
        f"imports {module}"
        for module, item in imports(source)
        if module.partition(".")[0] in PICKLES or item in PICKLES
    ]
    for call, function in calls(source):
        switched_on = any(
            word.arg == "allow_pickle"
            and not (isinstance(word.value, ast.Constant) and word.value.value is False)
            for word in call.keywords
        )
        if switched_on or function.endswith("read_pickle"):
            found.append(f"line {call.lineno}: loads pickles")
    return found


def check_sleep(name: str, source: str) -> list[str]:
    found = [
        f"line {call.lineno}: sleeps; wait for the event itself"
        for call, function in calls(source)
        if function == "time.sleep"
    ]
    return found + ["imports sleep" for pair in imports(source) if pair == ("time", "sleep")]


def check_text(form: re.Pattern[str]) -> Rule:
    """The rule that no line of a file matches `form`."""

    def check(name: str, source: str) -> list[str]:
        lines = enumerate(source.splitlines(), start=1)
        matches = ((number, form.search(line)) for number, line in lines)
        return [f"line {number}: {match[0]!r}" for number, match in matches if match]

    return check


def in_tests(name: str) -> bool:
    return name.startswith("tests/") and name.endswith(".py")


# Name -> (which files, the rule, a bad example, a good one); an example is (file, content).
RULES: dict[str, tuple[Callable[[str], bool], Rule, list[tuple[str, str]], tuple[str, str]]] = {
    "layering": (
        in_packages,
        check_layering,
        [
            ("streams/frames.py", "from workers import batching"),
            ("workers/agents.py", "def f():\n    import combiner.join"),
            ("combiner/join.py", "from . import health"),
            ("cli/main.py", "from tests.conftest import Topics"),
        ],
        ("combiner/service.py", "from cache.protocol import ScoreCache\nimport streams.sink"),
    ),
    "each module is pure or a shell": (
        in_packages,
        check_listed,
        [("streams/novelty.py", ""), ("streams/__init__.py", '"""Doc."""\nX = 1')],
        ("workers/adapters/xgboost_model.py", ""),
    ),
    "purity": (
        in_packages,
        check_purity,
        [
            ("combiner/join.py", "import time"),
            ("combiner/join.py", "from pathlib import Path"),
            ("combiner/join.py", "import logging.handlers"),
            ("combiner/strategies/median.py", "from streams.settings import Settings"),
            ("combiner/strategies/median.py", "from streams import settings"),
            ("streams/instants.py", "import datetime\ndatetime.datetime.now(datetime.UTC)"),
            ("streams/instants.py", "import numpy as np\nnp.random.rand(3)"),
            ("streams/instants.py", "import numpy as np\nnp.random.default_rng()"),
            ("streams/instants.py", "print(1)"),
        ],
        (
            "combiner/join.py",
            """
import numpy as np
from pathlib import PurePosixPath
from streams import errors
from combiner.strategies.median import Median
np.random.default_rng(7)
""",
        ),
    ),
    "sizes": (
        in_packages,
        check_sizes,
        [
            ("lab/train.py", "x = 1\n" * (MAX_MODULE_LINES + 1)),
            ("lab/train.py", "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
        ],
        ("lab/train.py", "def f():\n" + "    x = 1\n" * (MAX_FUNCTION_LINES - 1)),
    ),
    "nothing unfinished": (
        in_packages,
        check_unfinished,
        [("lab/train.py", "def f():\n    raise NotImplementedError('later')")],
        ("lab/train.py", "class P(Protocol):\n    def f(self) -> int: ..."),
    ),
    "print belongs to the command line": (
        in_packages,
        check_print,
        [("lab/train.py", "print('done')")],
        ("cli/main.py", "print('done')"),
    ),
    "no pickle": (
        in_packages,
        check_pickle,
        [
            ("workers/loading.py", "import pickle"),
            ("workers/loading.py", "from joblib import load"),
            ("workers/loading.py", "import numpy as np\nnp.load(path, allow_pickle=True)"),
            ("workers/loading.py", "from sklearn.externals import joblib"),
            ("workers/loading.py", "import pandas\npandas.read_pickle(path)"),
        ],
        ("workers/loading.py", "import skops.io\nnp.load(path, allow_pickle=False)"),
    ),
    "tests wait for events, not for time": (
        in_tests,
        check_sleep,
        [
            ("tests/test_x.py", "import time\ntime.sleep(1)"),
            ("tests/test_x.py", "from time import sleep"),
        ],
        ("tests/test_x.py", "event.wait(1)"),
    ),
    "no leftover markers": (
        lambda name: True,
        check_text(MARKERS),
        [("README.md", "TO" + "DO: write"), ("Makefile", "# good enough for no" + "w")],
        ("README.md", "for nowhere"),
    ),
    "no registry addresses": (
        lambda name: True,
        check_text(REGISTRIES),
        [
            ("Makefile", "pip install --index-url https://py" + "pi.org/simple"),
            ("x.toml", "url = 'https://repo.mav" + "en.apache.org/maven2'"),
            ("requirements.txt", "https://files.python" + "hosted.org/packages/x.whl"),
        ],
        ("kafka_jars.txt", "org.apache.maven:maven-core:3.9 sha256:0"),
    ),
    "no paths of one machine": (
        lambda name: True,
        check_text(MACHINE_PATHS),
        [("README.md", "cd /ho" + "me/me/src"), ("x.py", "open('/tm" + "p/x')")],
        (
            "README.md",
            "https://example.com/ho" + "me/x and examples/wo" + "rk/x and ${X}/tm" + "p/x",
        ),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule: str) -> None:
    applies, check, _, _ = RULES[rule]
    names = [name for name in tracked_files() if applies(name)]
    assert names, "a rule that applies to nothing guards nothing"
    violations = [
        f"{name}: {problem}"
        for name in names
        for problem in check(name, (ROOT / name).read_text(encoding="utf-8"))
    ]
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize(
    ("rule", "name", "content"),
    [(rule, *bad) for rule, (_, _, examples, _) in RULES.items() for bad in examples],
)
def test_the_rule_objects_to_a_bad_example(rule: str, name: str, content: str) -> None:
    applies, check, _, _ = RULES[rule]
    assert applies(name)
    assert check(name, content)


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_accepts_a_good_example(rule: str) -> None:
    applies, check, _, (name, content) = RULES[rule]
    assert applies(name)
    assert not check(name, content)


def test_layers_have_no_cycle() -> None:
    for package, allowed in LAYERS.items():
        for other in allowed:
            assert package not in LAYERS[other], f"{package} and {other} import each other"


def test_no_module_is_listed_twice_or_without_a_file() -> None:
    files = [name for name in tracked_files() if in_packages(name)]
    for package, (pure, shells) in MODULES.items():
        forms = pure.split() + shells.split()
        assert len(forms) == len(set(forms)), package
        for form in forms:
            assert any(fnmatch(name, f"{package}/{form}.py") for name in files), (
                f"{package}/{form} is listed and does not exist"
            )


def test_the_architecture_page_shows_the_same_table() -> None:
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = page.partition("| package | pure | shells |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines()[2:]]
    shown = {
        package.strip(" `"): (pure.replace("`", "").split(), shells.replace("`", "").split())
        for package, pure, shells in rows
    }
    listed = {
        package: (pure.split(), shells.replace("embedded/*", "embedded").split())
        for package, (pure, shells) in MODULES.items()
        if shells != "*"
    }
    for package, row in listed.items():
        assert shown.get(package) == row, f"docs/ARCHITECTURE.md, row {package}: expected {row}"
    assert shown.keys() == listed.keys()
