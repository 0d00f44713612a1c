"""The configuration as one tree of frozen, validated objects: the shape of `ensemble.toml`.

Reading the file, the environment and turning a mistake into one line is the loader's part
(`cli/configuration.py`); this module only says what exists, its unit, its default and its limits.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from streams.cascades import CascadeSettings
from streams.kinds import (
    Elsewhere,
    Name,
    Positive,
    PositiveShare,
    Property,
    Share,
    StrategyName,
)


class Section(BaseModel):
    """A table of the file: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EnsembleSettings(Section):
    """`[ensemble]`: which bundle runs, under which name."""

    name: Name = "ensemble"
    bundle: str = "bundle"


class KafkaSettings(Section):
    """`[kafka]`: librdkafka properties under their own names, passed through untouched.

    `properties` go to every client, `consumer` and `producer` to those alone. A value of
    `file:PATH` is read from that file, so that a secret need not stand here.

    `on_missing_offsets` is what to do when records behind the committed offset were deleted.
    """

    bootstrap_servers: str = "127.0.0.1:9092"
    on_missing_offsets: Literal["stop", "earliest", "latest"] = "stop"
    properties: dict[str, Property] = {}
    consumer: dict[str, Property] = {}
    producer: dict[str, Property] = {}


class TopicSettings(Section):
    """`[topics]`: names, and what `ensemble topics create` makes."""

    inputs: Annotated[tuple[Name, ...], Field(min_length=1)] = ("events",)
    predictions: Name = "predictions"
    scored: Name = "scored"
    dead_letters: Name = "dead-letters"
    health: Name = "health"
    control: Name = "control"
    escalations: Name = "escalations"
    corrections: Name | Literal[""] = ""
    partitions: Annotated[int, Field(gt=0, le=10_000)] = 4
    replication_factor: Annotated[int, Field(gt=0, le=32_767)] = 1
    retention_hours: Positive = 168

    @model_validator(mode="after")
    def _distinct(self) -> "TopicSettings":
        self.check_roles()
        return self

    def check_roles(self, *others: str) -> None:
        """Raise ValueError if a topic has two roles; `others` have roles, too."""
        names = [*self.inputs, self.predictions, self.scored, self.dead_letters, *others]
        names += [self.health, self.control, *filter(None, [self.corrections])]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"topic `{twice[0]}` has two roles; expected distinct names")


class FeatureMapping(Section):
    """`[event.features.NAME]`: where a feature is, where that is not its own name."""

    path: str | None = None
    required: bool | None = None


class EventSettings(Section):
    """`[event]`: where things are inside an event; paths use dots for nested objects.

    Without `id` an event is named `topic/partition/offset`. Without `entity` it is the record's
    key, else the id. Without `time` it is the record's timestamp. `pass_headers` go on to the
    score; a name that ends in `*` stands for all that begin so.
    """

    id: str = ""
    entity: str = ""
    time: str = ""
    pass_headers: tuple[str, ...] = ("traceparent", "tracestate")
    features: dict[str, FeatureMapping] = {}


class RemoteSettings(Section):
    """`[models.remote]`: where a model server is, and how it wants to be asked.

    `token` and the values of `headers` are `env:NAME` or `file:PATH`. With `layout = "columns"`
    each feature is a tensor of its own name, and `input` has no use.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]
    layout: Literal["matrix", "columns"] = "matrix"
    input: Annotated[str, Field(min_length=1)] = "input-0"
    output: str = ""
    datatype: Literal["FP32", "FP64"] = "FP32"
    missing: Literal["null", "nan"] | float = "null"
    parameters: dict[str, Property] = {}
    timeout_ms: Positive = 1000
    max_rows: Annotated[int, Field(gt=0, le=20_000)] = 500
    connections: Annotated[int, Field(gt=0, le=64)] = 4
    token: Elsewhere | None = None
    headers: dict[str, Elsewhere] = {}
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @model_validator(mode="after")
    def _tls_fits(self) -> "RemoteSettings":
        if self.key and not self.certificate:
            raise ValueError("`key` without `certificate`; expected both")
        if (self.ca or self.certificate) and not self.url.startswith("https:"):
            raise ValueError("`ca` and `certificate` need a `url` that begins with https:")
        return self

    def longest_ms(self, rows: int) -> int:
        """How long asking about so many rows can take at most."""
        requests = -(-rows // self.max_rows)
        return -(-requests // self.connections) * self.timeout_ms


class ModelSettings(Section):
    """`[[models]]`: one member of the ensemble.

    A model of the bundle is named as there; any other needs `callable = "module:function"`, a
    function from a float64[N, F] matrix to float64[N] (multi-class: float64[N, K]), and a
    `version`; or a server (`remote`).
    """

    name: Name
    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    reserve: bool = False
    callable: str = ""
    version: str = ""
    minimum: float | None = None
    maximum: float | None = None
    expected_latency_ms: Positive | None = None
    cache_predictions: bool = False
    external: bool = False
    remote: RemoteSettings | None = None

    @property
    def stated_version(self) -> str:
        """The version that answers must have; empty for that of the bundle."""
        return self.remote.version if self.remote else self.version

    def limits(self, *, probabilities: bool) -> tuple[float | None, float | None]:
        """The least and the greatest answer that count.

        What is not said is 0 and 1 for probabilities, and no limit for amounts.
        """
        if not probabilities:
            return self.minimum, self.maximum
        low = 0.0 if self.minimum is None else self.minimum
        return low, 1.0 if self.maximum is None else self.maximum

    @model_validator(mode="after")
    def _one_kind(self) -> "ModelSettings":
        kinds = {"callable": self.callable, "external": self.external, "remote": self.remote}
        chosen = [f"`{kind}`" for kind, value in kinds.items() if value]
        if len(chosen) > 1:
            raise ValueError(f"both {' and '.join(chosen)}; expected at most one of them")
        if self.remote and self.version:
            raise ValueError("`version` beside `remote`; expected it inside `remote` alone")
        if self.callable and not self.version:
            raise ValueError("`callable` without `version`; expected the version of its code")
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and low >= high:
            raise ValueError(f"minimum {low} is not below maximum {high}; expected a range")
        return self


class WorkerSettings(Section):
    """`[[workers]]`: models that share one process."""

    name: Name
    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    processes: Annotated[int, Field(ge=0, le=64)] = 1


class WorkerTuning(Section):
    """`[worker]`: how every worker process behaves."""

    max_batch: Annotated[int, Field(gt=0, le=20_000)] = 2000
    max_backlog: Positive = 20_000
    fetch_records: Annotated[int, Field(gt=0, le=1_000_000)] = 2000
    pace_ms: Annotated[int, Field(ge=1, le=1000)] = 10
    hang_ms: Positive = 10_000
    threads_per_model: Positive = 1
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    max_memory_mb: Positive | None = None
    max_address_space_mb: Positive | None = None
    state_directory: str = ""


class CombinerSettings(Section):
    """`[combiner]`: the decision."""

    strategy: StrategyName = "stacking"
    threshold: Share = 0.5
    trim_share: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.2
    deadline_ms: Positive = 100
    stall_ms: Positive = 2000
    start_up_ms: Positive = 10_000
    catch_up_limit_ms: Positive = 30_000
    order: Literal["partition", "ready"] = "partition"
    quorum: Literal["all", "share", "certain"] = "all"
    quorum_share: PositiveShare = 0.5
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    commit_interval_ms: Annotated[int, Field(ge=0, le=10_000)] = 10
    pace_ms: Annotated[int, Field(ge=1, le=1000)] = 10
    max_pending: Positive = 20_000
    explain: bool = False
    processes: Annotated[int, Field(ge=0, le=64)] = 1
    skip_published: bool = True


class SelectionSettings(Section):
    """`[selection]`: which members count, event by event; `all` is whoever answered."""

    method: Literal[
        "all",
        "overall_local_accuracy",
        "knora_eliminate",
        "knora_union",
        "region_best",
        "segment_weights",
        "constrained_subset",
    ] = "all"
    neighbours: Positive = 7
    best: Positive = 2
    max_models: Positive = 3
    latency_budget_ms: Positive | None = None
    min_diversity: Share = 0.0
    by: str = ""
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    weights: tuple[dict[str, float], ...] = ()


class CertaintySettings(Section):
    """`[certainty]`: what is used of the bundle's knowledge about the ensemble's own scores."""

    calibrate: bool = False
    promise: bool = False
    threshold: bool = False


class HealthSettings(Section):
    """`[health]`: when a model counts as degraded, failed and recovered."""

    window_ms: Positive = 2000
    degraded_share: PositiveShare = 0.05
    failed_share: PositiveShare = 0.5
    minimum_events: Positive = 10
    recovered_events: Positive = 20

    @model_validator(mode="after")
    def _in_order(self) -> "HealthSettings":
        if self.degraded_share > self.failed_share:
            raise ValueError(
                f"degraded_share {self.degraded_share} is above failed_share "
                f"{self.failed_share}; expected it below"
            )
        return self


class FallbackSettings(Section):
    """`[fallback]`: the ladder, from the best rung down; `prior` is always there."""

    ladder: tuple[Literal["partial", "reserve", "cached", "prior"], ...] = (
        "partial",
        "reserve",
        "cached",
        "prior",
    )
    minimum_members: Positive = 1
    cached_max_age_s: Positive = 86_400
    prior: Annotated[float, Field(allow_inf_nan=False)] | None = None


class CacheSettings(Section):
    """`[cache]`: `memory://`, or a Redis URL; a password comes from the environment or a file."""

    url: SecretStr = SecretStr("memory://")
    ttl_s: Positive = 86_400
    timeout_ms: Positive = 20
    max_entries: Positive = 100_000
    breaker_failures: Positive = 3
    breaker_cool_down_ms: Positive = 1000


class MonitorSettings(Section):
    """`[metrics]`: where each process shows its Prometheus metrics; 0 picks a free port."""

    host: str = "127.0.0.1"
    worker_port: Annotated[int, Field(ge=0, le=65_535)] = 9101
    combiner_port: Annotated[int, Field(ge=0, le=65_535)] = 9201
    monitor_port: Annotated[int, Field(ge=0, le=65_535)] = 9301


class Settings(Section):
    """The whole of `ensemble.toml`."""

    ensemble: EnsembleSettings = EnsembleSettings()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    event: EventSettings = EventSettings()
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]
    workers: tuple[WorkerSettings, ...] = ()
    worker: WorkerTuning = WorkerTuning()
    combiner: CombinerSettings = CombinerSettings()
    selection: SelectionSettings = SelectionSettings()
    certainty: CertaintySettings = CertaintySettings()
    cascade: CascadeSettings = CascadeSettings()
    health: HealthSettings = HealthSettings()
    fallback: FallbackSettings = FallbackSettings()
    cache: CacheSettings = CacheSettings()
    metrics: MonitorSettings = MonitorSettings()

    @model_validator(mode="after")
    def _names_agree(self) -> "Settings":
        names = [model.name for model in self.models]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"models: `{twice[0]}` is configured twice; expected distinct names")
        hosted: set[str] = set()
        seen: set[str] = set()
        for worker in self.workers:
            if worker.name in seen:
                raise ValueError(f"workers: `{worker.name}` twice; expected distinct names")
            seen.add(worker.name)
            for name in worker.models:
                if name not in names:
                    raise ValueError(
                        f"workers.{worker.name}.models: no model `{name}`; "
                        f"expected some of {', '.join(names)}"
                    )
                if name in hosted:
                    raise ValueError(f"workers.{worker.name}.models: `{name}` has a worker already")
                hosted.add(name)
        homeless = [m.name for m in self.models if m.name not in hosted and not m.external]
        if homeless:
            raise ValueError(
                f"models: `{homeless[0]}` has no worker; expected it under a [[workers]] table, "
                "or `external = true` if somebody else scores it"
            )
        if all(model.reserve for model in self.models):
            raise ValueError("models: all are reserves; expected at least one member")
        return self

    @model_validator(mode="after")
    def _cascade_fits(self) -> "Settings":
        if self.cascade.on:
            self.topics.check_roles(self.topics.escalations)
            self.cascade.check_models(
                {model.name: model.reserve for model in self.models},
                {worker.name: worker.models for worker in self.workers},
            )
            self.cascade.check_others(
                quorum=self.combiner.quorum,
                selection=self.selection.method,
                strategy=self.combiner.strategy,
                promise=self.certainty.promise,
            )
        return self

    @model_validator(mode="after")
    def _remote_is_no_hang(self) -> "Settings":
        for model in self.models:
            longest_ms = model.remote.longest_ms(self.worker.max_batch) if model.remote else 0
            if longest_ms >= self.worker.hang_ms:
                raise ValueError(
                    f"models: the remote `{model.name}` may take {longest_ms} ms for a batch, and "
                    f"worker.hang_ms is {self.worker.hang_ms}; expected a shorter `timeout_ms`, "
                    "more `max_rows`, or more `connections`"
                )
        return self
