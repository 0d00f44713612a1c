"""This product on the rig: its own processes, as `ensemble up` starts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pipelines.processes import Processes, processes
from benchmarks.pipelines.rig import PARTITIONS, Rig

_CONFIG = """\
[ensemble]
name = "{name}"
bundle = "{bundle}"

[kafka]
bootstrap_servers = "{servers}"

[topics]
inputs = ["{name}-events"]
predictions = "{name}-predictions"
scored = "{name}-scored"
dead_letters = "{name}-dead"
health = "{name}-health"
control = "{name}-control"
partitions = {partitions}

[event]
id = "id"

{models}
{workers}
[combiner]
strategy = "{strategy}"
delivery = "{delivery}"

[metrics]
worker_port = 0
combiner_port = 0
monitor_port = 0
"""


@dataclass(frozen=True, slots=True)
class Ours:
    """How the product is set up.

    Attributes:
        name: prefix of its topics.
        delivery: `exactly_once` or `at_least_once`.
        strategy: how answers are combined.
        processes: over how many worker processes the models are spread.
    """

    name: str
    delivery: str = "exactly_once"
    strategy: str = "weighted_mean"
    processes: int = 1

    @property
    def events(self) -> str:
        """The input topic."""
        return f"{self.name}-events"

    @property
    def scored(self) -> str:
        """The topic of final scores."""
        return f"{self.name}-scored"

    def write(self, rig: Rig) -> Path:
        """The configuration file, and the topics."""
        models = rig.models
        shares = [models[start :: self.processes] for start in range(self.processes)]
        config = rig.directory / f"{self.name}.toml"
        config.write_text(
            _CONFIG.format(
                name=self.name,
                bundle=rig.bundle,
                servers=rig.servers,
                partitions=PARTITIONS,
                strategy=self.strategy,
                delivery=self.delivery,
                models="".join(f'[[models]]\nname = "{model}"\n' for model in models),
                workers="".join(
                    f'[[workers]]\nname = "w{index}"\nmodels = {share}\n'.replace("'", '"')
                    for index, share in enumerate(shares)
                ),
            )
        )
        per_partition = dict.fromkeys(
            (f"{self.name}-{part}" for part in ("events", "predictions", "scored")), PARTITIONS
        )
        single = dict.fromkeys((f"{self.name}-{part}" for part in ("dead", "health", "control")), 1)
        rig.create_topics(per_partition | single)
        return config

    @contextmanager
    def running(self, rig: Rig, config: Path) -> Iterator[Processes]:
        """Workers and combiner; the monitor reads health only and is left out."""
        from cli.configuration import load_settings
        from cli.up import programs_of

        with processes() as running:
            for program in programs_of(load_settings(config), config):
                if program.name != "monitor":
                    log = rig.directory / f"{self.name}-{program.name}.log"
                    running.start(program.name, program.command, log)
            yield running
