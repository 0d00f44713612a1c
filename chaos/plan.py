"""What the system under test consists of, and its configuration as a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.bundle import write_bundle
from registry.manifest import DataFingerprint, Manifest, Stacking, StackingFit
from streams.features import Feature, FeatureSchema

SCHEMA = FeatureSchema((Feature("x"), Feature("note", "category", ("a", "b"), required=False)))
PRIOR = 0.25
PARTITIONS = 4

# Stock brokers refuse records whose producer is an hour ahead.
ANY_TIMESTAMP = {"log.message.timestamp.after.max.ms": str(7 * 86_400_000)}

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build; the defaults are three models in two workers, and one combiner.

    Attributes:
        brokers: how many Kafka brokers.
        broker_properties: under Kafka's own names, for each broker.
        kafka_proxy: put a fault proxy between the processes and each broker.
        redis: whether there is a Redis; without one the cache is in memory.
        redis_proxy: put a fault proxy between the processes and Redis.
        partitions: of the topics.
        models: model → `module:function`, scored by the workers.
        details: model → more settings of its table.
        workers: worker → its models.
        processes: worker → how many processes, where it is not one.
        combiners: how many.
        tables: tables of the configuration → settings that win over those of the stage.
        wrapped: program → arguments of `chaos.wrapper`, which then runs it (see there).
    """

    brokers: int = 1
    broker_properties: Mapping[str, str] = field(default_factory=dict)
    kafka_proxy: bool = False
    redis: bool = True
    redis_proxy: bool = False
    partitions: int = PARTITIONS
    models: Mapping[str, str] = field(
        default_factory=lambda: {
            name: f"chaos.models:{name}" for name in ("mild", "steep", "square")
        }
    )
    details: Mapping[str, Table] = field(default_factory=dict)
    workers: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"one": ("mild",), "two": ("steep", "square")}
    )
    processes: Mapping[str, int] = field(default_factory=dict)
    combiners: int = 1
    tables: Mapping[str, Table] = field(default_factory=dict)
    wrapped: Mapping[str, Sequence[str]] = field(default_factory=dict)


def write_config(
    plan: Plan, directory: Path, servers: str, redis_url: str, ports: Sequence[int]
) -> Path:
    """Write `ensemble.toml` and the bundle it names.

    Args:
        plan: what is wanted.
        directory: where to.
        servers: of Kafka, as the processes see it.
        redis_url: of the cache, likewise.
        ports: of the metrics pages: first worker, first combiner, monitor.
    """
    make_bundle(directory / "bundle")
    tables: dict[str, Table] = {
        "ensemble": {"name": "chaos", "bundle": "bundle"},
        "kafka": {"bootstrap_servers": servers},
        "topics": {
            "partitions": plan.partitions,
            "replication_factor": plan.brokers,
        },
        "event": {"id": "id"},
        "combiner": {
            "strategy": "weighted_mean",
            "delivery": "exactly_once",
            "processes": plan.combiners,
        },
        "cache": {"url": redis_url},
        "metrics": dict(zip(("worker_port", "combiner_port", "monitor_port"), ports, strict=True)),
    }
    for name, more in plan.tables.items():
        tables[name] = {**tables.get(name, {}), **more}
    lines = [line for name, table in tables.items() for line in _lines(f"[{name}]", table)]
    for name, place in plan.models.items():
        table = {"name": name, "callable": place, "version": "1", **plan.details.get(name, {})}
        lines += _lines("[[models]]", table)
    for name, models in plan.workers.items():
        count = plan.processes.get(name, 1)
        lines += _lines("[[workers]]", {"name": name, "models": list(models), "processes": count})
    path = directory / "ensemble.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _lines(head: str, table: Table) -> list[str]:
    """A table of TOML; JSON's text, numbers, booleans and lists are TOML's too.

    >>> _lines("[cache]", {"url": "memory://", "kafka": {"linger.ms": 2}})
    ['[cache]', '"url" = "memory://"', '"kafka" = {"linger.ms" = 2}']
    """
    return [head, *(f"{json.dumps(name)} = {_value(value)}" for name, value in table.items())]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def make_bundle(directory: Path) -> Path:
    """A bundle without models of its own: all members are functions, or somebody else's."""
    manifest = Manifest(
        schema=SCHEMA,
        models=(),
        calibrations={},
        stacking=Stacking((), {"": StackingFit(0.0, ())}, (), ()),
        quantiles={},
        golden_rows=(),
        metrics={},
        data=DataFingerprint("0" * 64, 0, "y", PRIOR),
        libraries={},
    )
    return write_bundle(directory, manifest, {}).directory
