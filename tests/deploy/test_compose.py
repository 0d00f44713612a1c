"""The compose files agree with the command line, the configuration and each other.

There is no engine here to run them, so each rule is a function from the parsed files to its
violations; each is run on the real files, and each is shown to object to a spoiled copy.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from cli.configuration import load_settings
from cli.main import app
from streams.settings import Settings
from streams.signals import CATALOGUE

ROOT = Path(__file__).parents[2]
IMAGE = "stream-ensemble:local"
SUFFIXES = ("_bucket", "_sum", "_count")


@dataclass
class Deployment:
    """Everything that must agree."""

    compose: dict[str, Any]
    prometheus: dict[str, Any]
    dashboard: dict[str, Any]
    datasources: dict[str, Any]
    providers: dict[str, Any]
    dockerfile: str
    dockerignore: str
    settings: Settings

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        return self.compose["services"]

    @property
    def ours(self) -> dict[str, dict[str, Any]]:
        """The services that run the product."""
        return {name: each for name, each in self.services.items() if each["image"] == IMAGE}


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture
def deployment() -> Deployment:
    grafana = ROOT / "deploy" / "grafana"
    return Deployment(
        compose=read("docker-compose.yml"),
        prometheus=read("deploy/prometheus.yml"),
        dashboard=json.loads((grafana / "dashboards" / "ensemble.json").read_text()),
        datasources=read("deploy/grafana/provisioning/datasources/prometheus.yml"),
        providers=read("deploy/grafana/provisioning/dashboards/ensemble.yml"),
        dockerfile=(ROOT / "Dockerfile").read_text(),
        dockerignore=(ROOT / ".dockerignore").read_text(),
        settings=load_settings(ROOT / "deploy" / "ensemble.toml", {}),
    )


def commands(found: Deployment) -> Iterator[str]:
    """Every command of the product parses, as the command line itself parses it."""
    root = typer.main.get_command(app)
    for name, service in found.ours.items():
        command, arguments = root, list(service["command"])
        context = command.make_context("ensemble", arguments[:1], resilient_parsing=True)
        while hasattr(command, "commands"):
            if not arguments or arguments[0] not in command.commands:
                yield f"{name}: no command {' '.join(service['command'])}"
                break
            command = command.commands[arguments.pop(0)]
        else:
            try:
                command.make_context(name, arguments, parent=context)
            except Exception as error:  # noqa: BLE001 -- whatever the parser raises
                yield f"{name}: {service['command']}: {error}"


def mounts(found: Deployment) -> Iterator[str]:
    """Every file that is mounted exists, every volume is declared, every path inside is known."""
    for name, service in found.services.items():
        for volume in service.get("volumes", ()):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                if not (ROOT / source).exists():
                    yield f"{name}: {source} does not exist"
            elif source not in found.compose["volumes"]:
                yield f"{name}: volume {source} is not declared"
            if not target.startswith("/"):
                yield f"{name}: {target} is no path"
        if name in found.ours:
            yield from _paths_inside(name, service, found)


def _paths_inside(name: str, service: dict[str, Any], found: Deployment) -> Iterator[str]:
    targets = [volume.split(":")[1] for volume in service["volumes"]]
    wanted = [part.partition("=")[2] or part for part in service["command"]]
    wanted = [part for part in wanted if part.startswith("/")]
    config = re.search(r"ENSEMBLE_CONFIG=(\S+)", found.dockerfile)
    assert config is not None, "the image names its configuration"
    if name != "train":
        wanted += [config[1], found.settings.ensemble.bundle]
    for path in wanted:
        if not any(path == target or path.startswith(target + "/") for target in targets):
            yield f"{name}: {path} is on no volume"


def ports(found: Deployment) -> Iterator[str]:
    """Ports agree with the configuration, and are open to this machine only."""
    settings = found.settings.metrics
    port_of = {"worker": settings.worker_port, "combiner": settings.combiner_port}
    port_of["monitor"] = settings.monitor_port
    yield from _scraped_ports(found, port_of)
    for name, service in found.ours.items():
        port = port_of.get(service["command"][0])
        if port and f":{port}/readyz" not in service["healthcheck"]["test"][-1]:
            yield f"{name}: its health check asks another port than {port}"
    if settings.host != "0.0.0.0":
        yield f"metrics are shown on {settings.host} only"
    for name, service in found.services.items():
        for published in service.get("ports", ()):
            if not published.startswith("127.0.0.1:"):
                yield f"{name}: port {published} is open to everybody"
    yield from _kafka_ports(found, found.settings.kafka.bootstrap_servers)


def _scraped_ports(found: Deployment, port_of: dict[str, int]) -> Iterator[str]:
    jobs = found.prometheus["scrape_configs"]
    targets = [t for job in jobs for group in job["static_configs"] for t in group["targets"]]
    for target in targets:
        host, _, port = target.partition(":")
        role = found.services[host]["command"][0] if host in found.services else ""
        if str(port_of.get(role)) != port:
            yield f"prometheus asks {target}, {role or 'nobody'} listens at {port_of.get(role)}"
    for name, service in found.ours.items():
        asked = any(target.startswith(f"{name}:") for target in targets)
        if service["command"][0] in port_of and not asked:
            yield f"prometheus does not ask {name}"


def _kafka_ports(found: Deployment, servers: str) -> Iterator[str]:
    environment = found.services["kafka"]["environment"]
    if f"://{servers}," not in environment["KAFKA_ADVERTISED_LISTENERS"]:
        yield f"kafka does not advertise {servers}"
    listeners = environment["KAFKA_LISTENERS"]
    for listener in environment["KAFKA_ADVERTISED_LISTENERS"].split(","):
        name, _, address = listener.partition("://")
        if f"{name}://:{address.rpartition(':')[2]}" not in listeners:
            yield f"kafka advertises {listener} and listens to {listeners}"
    if servers not in found.services["kafka"]["healthcheck"]["test"]:
        yield f"the health check of kafka does not ask {servers}"
    host, _, rest = found.settings.cache.url.get_secret_value().partition("://")[2].partition(":")
    if host not in found.services or rest != "6379/0":
        yield f"no service is the Redis {host}:{rest}"


def metrics(found: Deployment) -> Iterator[str]:
    """Every metric and label in the dashboard's queries is in the catalogue."""
    signals = {signal.name: signal for signal in CATALOGUE}
    queries = [
        (panel["title"], target["expr"])
        for panel in found.dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    for title, query in queries:
        names = re.findall(r"\bensemble_\w+", query)
        if not names:
            yield f"{title}: {query} asks for no metric of ours"
        labels = {"le", "job"}
        for name in names:
            base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
            signal = signals.get(base) if base in signals else signals.get(name)
            if signal is None or ((base != name) != (signal.kind == "histogram")):
                yield f"{title}: no metric {name}"
            else:
                labels |= set(signal.labels)
        grouped = re.findall(r"(?:by|ignoring) \(([^)]*)\)", query)
        for label in {each.strip() for group in grouped for each in group.split(",")} - labels:
            yield f"{title}: no label {label}"


def models(found: Deployment) -> Iterator[str]:
    """Every model has exactly one worker process, and every process a slot of its own."""
    hosted: list[str] = []
    slots: list[tuple[str, ...]] = []
    tables = {worker.name: worker for worker in found.settings.workers}
    for service in found.ours.values():
        role, *arguments = service["command"]
        if role in {"worker", "combiner"}:
            slots.append((role, *arguments))
        if role == "worker":
            table = tables.get(arguments[0])
            hosted += table.models if table else [f"unknown worker {arguments[0]}"]
    wanted = [model.name for model in found.settings.models]
    for name in {*hosted, *wanted}:
        if hosted.count(name) != 1:
            yield f"model {name} has {hosted.count(name)} workers"
        if name not in wanted:
            yield f"{name} is not configured"
    if len(set(slots)) < len(slots):
        yield "two processes have one slot"


def care(found: Deployment) -> Iterator[str]:
    """Everything long-lived is watched and restarted, in an order that exists."""
    for name, service in found.services.items():
        once = service["restart"] == "no"
        if not once and service["restart"] != "unless-stopped":
            yield f"{name}: restart {service['restart']}"
        if not once and name != "producer" and "healthcheck" not in service:
            yield f"{name}: no health check"
        if ":" not in service["image"] or service["image"].endswith(":latest"):
            yield f"{name}: the image has no version"
        for other, how in service.get("depends_on", {}).items():
            if other not in found.services:
                yield f"{name} depends on {other}, which does not exist"
                continue
            finishes = how["condition"] == "service_completed_successfully"
            if finishes != (found.services[other]["restart"] == "no"):
                yield f"{name}: {other} is never {how['condition']}"


def image(found: Deployment) -> Iterator[str]:
    """The image is locked, complete, and has no rights."""
    if "--require-hashes -r requirements.lock" not in found.dockerfile:
        yield "downloads are not checked against the lock"
    user = re.findall(r"^USER (\S+)", found.dockerfile, re.MULTILINE)
    if not user or user[-1] in {"root", "0"}:
        yield "it runs as root"
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", found.dockerfile, re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}
    for package in packages - set(sources):
        yield f"{package} is not copied"
    allowed = [line[1:] for line in found.dockerignore.splitlines() if line.startswith("!")]
    for source in sources:
        if not (ROOT / source).exists():
            yield f"{source} does not exist"
        if not any(fnmatch(source, form) for form in allowed):
            yield f"{source} is kept out by .dockerignore"
    if 'ENTRYPOINT ["ensemble"]' not in found.dockerfile:
        yield "its command is not ensemble"


def grafana(found: Deployment) -> Iterator[str]:
    """Grafana finds Prometheus and the dashboard."""
    [source] = found.datasources["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    if (
        host not in found.services
        or f"127.0.0.1:{port}:{port}" not in found.services[host]["ports"]
    ):
        yield f"no service at {source['url']}"
    targets = [volume.split(":")[1] for volume in found.services["grafana"]["volumes"]]
    [provider] = found.providers["providers"]
    if provider["options"]["path"] not in targets:
        yield f"dashboards are not mounted at {provider['options']['path']}"
    home = found.services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    if Path(home).parent.as_posix() != provider["options"]["path"]:
        yield f"no dashboard at {home}"
    panels = found.dashboard["panels"]
    if len({panel["id"] for panel in panels}) < len(panels):
        yield "two panels have one id"


Rule = Callable[[Deployment], Iterator[str]]
Spoil = Callable[[Deployment], object]


def command(name: str, *words: str) -> Spoil:
    return lambda found: found.services[name].update(command=list(words))


def environment(name: str, key: str, value: str) -> Spoil:
    return lambda found: found.services[name]["environment"].update({key: value})


def query(text: str) -> Spoil:
    return lambda found: found.dashboard["panels"][1]["targets"][0].update(expr=text)


def volumes(name: str, *listed: str) -> Spoil:
    return lambda found: found.services[name].update(volumes=list(listed))


def edit(attribute: str, old: str, new: str) -> Spoil:
    def spoil(found: Deployment) -> None:
        text = getattr(found, attribute)
        assert old in text
        setattr(found, attribute, text.replace(old, new))

    return spoil


def local_metrics(found: Deployment) -> None:
    metrics = found.settings.metrics.model_copy(update={"host": "127.0.0.1"})
    found.settings = found.settings.model_copy(update={"metrics": metrics})


BROKEN: list[tuple[Rule, Spoil, str]] = [
    (commands, command("combiner", "combine", "--slot", "0"), "no command combine"),
    (commands, command("combiner", "combiner"), "combiner"),
    (commands, command("topics", "topics", "make"), "no command topics make"),
    (commands, command("producer", "produce", "x", "--speed", "1"), "--speed"),
    (mounts, volumes("prometheus", "./deploy/none.yml:/etc/x"), "none.yml does not exist"),
    (mounts, volumes("kafka", "elsewhere:/var/lib/kafka/data"), "elsewhere is not declared"),
    (mounts, volumes("monitor", "ensemble:/var/lib/ensemble"), "ensemble.toml is on no volume"),
    (
        mounts,
        volumes("monitor", "./deploy/ensemble.toml:/etc/ensemble/ensemble.toml:ro"),
        "bundle is on no volume",
    ),
    (
        ports,
        lambda f: f.prometheus["scrape_configs"][0]["static_configs"][0]["targets"].pop(),
        "does not ask worker-lightgbm",
    ),
    (
        ports,
        lambda f: f.prometheus["scrape_configs"][1].update(
            static_configs=[{"targets": ["combiner:9999"]}]
        ),
        "prometheus asks combiner:9999",
    ),
    (
        ports,
        lambda f: f.services["monitor"]["healthcheck"].update(test=["CMD", "x:1/readyz"]),
        "asks another port than 9301",
    ),
    (ports, lambda f: f.services["grafana"].update(ports=["3000:3000"]), "open to everybody"),
    (ports, local_metrics, "metrics are shown on 127.0.0.1 only"),
    (
        ports,
        environment("kafka", "KAFKA_ADVERTISED_LISTENERS", "INSIDE://kafka:9095,X://127.0.0.1:1"),
        "does not advertise kafka:9092",
    ),
    (
        ports,
        environment("kafka", "KAFKA_LISTENERS", "INSIDE://:9092,OUTSIDE://:9095"),
        "kafka advertises OUTSIDE",
    ),
    (ports, lambda f: f.services["kafka"]["healthcheck"].update(test=["CMD"]), "health check of"),
    (ports, lambda f: f.services.pop("redis"), "no service is the Redis"),
    (metrics, query("sum(rate(ensemble_evnts_total[1m]))"), "no metric ensemble_evnts_total"),
    (metrics, query("sum(ensemble_latency_seconds)"), "no metric ensemble_latency_seconds"),
    (metrics, query("ensemble_pending_events_sum"), "no metric ensemble_pending_events_sum"),
    (metrics, query("sum by (shape) (ensemble_model_state)"), "no label shape"),
    (metrics, query("up"), "asks for no metric"),
    (models, lambda f: f.services.pop("worker-xgboost"), "xgboost has 0 workers"),
    (models, command("worker-xgboost", "worker", "lightgbm", "--slot", "1"), "lightgbm has 2"),
    (models, command("worker-xgboost", "worker", "none", "--slot", "0"), "is not configured"),
    (models, command("monitor", "combiner", "--slot", "0"), "two processes have one slot"),
    (care, lambda f: f.services["combiner"].update(restart="always"), "restart always"),
    (care, lambda f: f.services["combiner"].pop("healthcheck"), "no health check"),
    (care, lambda f: f.services["redis"].update(image="redis:latest"), "no version"),
    (care, lambda f: f.services.pop("topics"), "which does not exist"),
    (
        care,
        lambda f: f.services["producer"]["depends_on"].update(
            combiner={"condition": "service_completed_successfully"}
        ),
        "is never service_completed_successfully",
    ),
    (image, edit("dockerfile", "--require-hashes ", ""), "not checked against the lock"),
    (image, edit("dockerfile", "USER ensemble", "USER root"), "runs as root"),
    (image, edit("dockerfile", "COPY monitor monitor\n", ""), "monitor is not copied"),
    (image, edit("dockerfile", "COPY lab lab\n", "COPY lab labs lab\n"), "labs does not exist"),
    (image, edit("dockerignore", "!cache\n", ""), "cache is kept out"),
    (image, edit("dockerfile", 'ENTRYPOINT ["ensemble"]', ""), "its command is not ensemble"),
    (grafana, lambda f: f.datasources["datasources"][0].update(url="http://p:1"), "no service at"),
    (
        grafana,
        lambda f: f.providers["providers"][0]["options"].update(path="/x"),
        "not mounted at /x",
    ),
    (
        grafana,
        environment("grafana", "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", "/x/y.json"),
        "no dashboard at /x/y.json",
    ),
    (grafana, lambda f: f.dashboard["panels"][0].update(id=2), "two panels have one id"),
]
RULES = [commands, mounts, ports, metrics, models, care, image, grafana]


@pytest.mark.parametrize("rule", RULES)
def test_the_files_keep_the_rule(deployment: Deployment, rule: Rule) -> None:
    assert list(rule(deployment)) == []


@pytest.mark.parametrize(("rule", "spoil", "complaint"), BROKEN)
def test_the_rule_objects_to_a_spoiled_copy(
    deployment: Deployment, rule: Rule, spoil: Spoil, complaint: str
) -> None:
    # Anchors make several services share one object; each gets its own to be spoiled.
    deployment.compose = json.loads(json.dumps(deployment.compose))
    deployment = copy.copy(deployment)
    spoil(deployment)
    assert any(complaint in line for line in rule(deployment)), list(rule(deployment))


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_every_signal_of_the_catalogue_that_people_watch_is_on_the_dashboard(
    deployment: Deployment,
) -> None:
    text = json.dumps(deployment.dashboard)
    for name in ("scored_total", "latency_seconds", "model_state", "lag_records"):
        assert f"ensemble_{name}" in text


def test_no_secret_is_in_the_files() -> None:
    texts = [(ROOT / name).read_text() for name in ("docker-compose.yml", "deploy/ensemble.toml")]
    assert not re.search(r"(?i)(password|secret|token)\W+\w", "\n".join(texts).replace(
        "Nothing here has a password, so", ""
    ))  # fmt: skip


def test_the_command_line_refuses_what_the_checker_refuses() -> None:
    assert CliRunner().invoke(app, ["combine"]).exit_code == 2
