"""`ensemble check`: whether everything a configuration needs is there, and what to do if not."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from streams.errors import BrokerError, CacheError, ConfigurationError, EnsembleError

if TYPE_CHECKING:
    from registry.bundle import LoadedBundle
    from streams.admin import TopicState
    from streams.settings import ModelSettings, Settings

# A person waits; the scoring path would not.
_CACHE_TIMEOUT_MS = 2000
_BROKER_TIMEOUT_S = 6.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Where it is not well, `advice` says what to do and `exit_code` whose fault it is.
    """

    check: str
    detail: str
    advice: str = ""
    exit_code: int = 0

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.exit_code


def _wrong(check: str, error: EnsembleError, advice: str) -> Finding:
    detail = str(error).replace("\n", "; ")
    return Finding(check, detail, advice, error.exit_code)


def check(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Check configuration, bundle, broker, topics and cache; say what to do about each fault."""
    findings: list[Finding] = []
    for finding in findings_of(config):
        findings.append(finding)
        if not json:
            _print(finding)
    if json:
        import msgspec

        typer.echo(msgspec.json.encode([{"ok": f.ok} | asdict(f) for f in findings]).decode())
    raise typer.Exit(next((f.exit_code for f in findings if not f.ok), 0))


def findings_of(config: Path) -> Iterator[Finding]:
    """Every check that makes sense after the ones before it."""
    from cli import logs
    from cli.configuration import load_settings

    logs.configure_command()
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            yield Finding("configuration", line, f"correct {config}", error.exit_code)
        return
    count = len(settings.models)
    yield Finding("configuration", f"{config}: {count} model{'s' if count > 1 else ''}")
    yield from _bundle(settings, config)
    yield from _kafka(settings)
    yield _cache(settings)


def _bundle(settings: "Settings", config: Path) -> Iterator[Finding]:
    from cli.roles import allow_user_modules
    from registry.bundle import load_manifest, verify

    advice = "train one with `ensemble train`, or correct `ensemble.bundle`"
    try:
        bundle = load_manifest(Path(settings.ensemble.bundle))
        verify(bundle)
    except EnsembleError as error:
        yield _wrong("bundle", error, advice)
        return
    yield Finding("bundle", f"{bundle.directory}: version {bundle.version}, all hashes agree")
    yield _judged("event mapping", "correct [event]", lambda: _mapping(settings, bundle))
    allow_user_modules(config)
    yield _judged("models", "correct [[models]], or train again", lambda: _models(settings, bundle))
    for model in settings.models:
        if model.remote is not None:
            advice = "start its server, or correct `remote`; scores go on without it"
            yield _judged(f"model {model.name}", advice, partial(_server, model, bundle))
    yield _judged("strategy", "correct [combiner]", lambda: _strategy(settings, bundle))


def _judged(check: str, advice: str, run: Callable[[], str]) -> Finding:
    try:
        return Finding(check, run())
    except EnsembleError as error:
        return _wrong(check, error, advice)


def _mapping(settings: "Settings", bundle: "LoadedBundle") -> str:
    from streams.mapping import decoder_of

    return f"{len(decoder_of(bundle.manifest.schema, settings.event).schema)} features"


def _models(settings: "Settings", bundle: "LoadedBundle") -> str:
    from workers.loading import load_models

    models = load_models(settings.models, bundle)
    return f"{len(models)} loaded, and they answer as they did when they were trained"


def _server(model: "ModelSettings", bundle: "LoadedBundle") -> str:
    from streams.errors import ModelError
    from workers.adapters.open_inference import RemoteModel
    from workers.loading import load_model

    found = load_model(model, bundle)
    assert model.remote is not None
    assert isinstance(found, RemoteModel)
    if problem := found.problem():
        raise ModelError(f"{model.remote.url}: {problem}")
    return f"{model.remote.url}: ready, version {model.remote.version}"


def _strategy(settings: "Settings", bundle: "LoadedBundle") -> str:

    from combiner.assembly import combiner_of
    from combiner.refining import knowledge_of

    knowledge = knowledge_of(bundle, settings)
    combiner_of(settings, bundle.manifest, settings.ensemble.name, lambda _: [], 0, knowledge)
    heavy = ", ".join(settings.cascade.heavy)
    return settings.combiner.strategy + (f", a cascade with {heavy} heavy" if heavy else "")


def _kafka(settings: "Settings") -> Iterator[Finding]:
    from streams.admin import TopicAdmin, wanted_topics

    advice = "start Kafka (`ensemble broker` for a first try), or correct [kafka]"
    wanted = wanted_topics(settings.topics, cascade=settings.cascade.on)
    try:
        admin = TopicAdmin(settings.kafka)
        brokers = admin.reach(_BROKER_TIMEOUT_S)
        states = admin.states(topic.name for topic in wanted)
    except EnsembleError as error:
        yield _wrong("broker", error, advice)
        return
    servers = settings.kafka.bootstrap_servers
    yield Finding("broker", f"{servers}: {brokers} broker{'s' if brokers > 1 else ''}")
    yield from topic_findings(settings, states)


def topic_findings(settings: "Settings", states: "dict[str, TopicState]") -> Iterable[Finding]:
    """One finding for each topic of the configuration."""
    from streams.admin import wanted_topics

    predictions = states.get(settings.topics.predictions)
    for topic in wanted_topics(settings.topics, cascade=settings.cascade.on):
        state = states.get(topic.name)
        name = f"topic {topic.name}"
        if state is None:
            advice = "make it with `ensemble topics create`"
            yield Finding(name, "does not exist", advice, BrokerError.exit_code)
            continue
        problem, advice = _topic_problem(topic.role, state, predictions)
        if problem:
            yield Finding(name, problem, advice, BrokerError.exit_code)
        else:
            s = "s" if state.partitions > 1 else ""
            yield Finding(name, f"{state.partitions} partition{s}, {state.cleanup}")


def _topic_problem(
    role: str, state: "TopicState", predictions: "TopicState | None"
) -> tuple[str, str]:
    """What is wrong with a topic that exists, and what to do; empty texts if nothing is."""
    if role == "control":
        if "compact" not in state.cleanup:
            return (
                f"cleanup.policy is {state.cleanup}, so old decisions are forgotten",
                "set cleanup.policy=compact on it",
            )
        return "", ""
    if predictions is None or role in {"health", "predictions"}:
        return "", ""
    there, needed = state.partitions, predictions.partitions
    if role in {"inputs", "escalations"} and there != needed:
        return (
            f"{there} partitions, but {predictions.name} has {needed}",
            f"give {role} and predictions equal partition counts (Kafka can only add partitions)",
        )
    if there < needed:
        return (
            f"{there} partitions, but {predictions.name} has {needed}",
            "give it at least as many, because a score is on its event's partition",
        )
    return "", ""


def _cache(settings: "Settings") -> Finding:
    from cache.opening import MEMORY_URL, open_store
    from streams.clock import SystemClock

    url = settings.cache.url.get_secret_value()
    if url == MEMORY_URL:
        return Finding("cache", "memory:// (inside each process; `ensemble get` needs Redis)")
    advice = "start Redis (`ensemble broker` for a first try), or correct [cache]; scores go on"
    try:
        store = open_store(url, timeout_ms=_CACHE_TIMEOUT_MS, max_entries=1, clock=SystemClock())
        try:
            store.get_many([b"se1:check"])
        finally:
            store.close()
    except (CacheError, ConfigurationError) as error:
        return _wrong("cache", error, advice)
    from cli.logs import masked

    return Finding("cache", masked(url))


def _print(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    line = Text("✓ " if finding.ok else "✗ ", "green" if finding.ok else "red")
    line.append(f"{finding.check}: ", "bold").append(finding.detail, "default")
    if finding.advice:
        line.append(f"\n    {finding.advice}", "yellow")
    Console(soft_wrap=True).print(line, highlight=False)
