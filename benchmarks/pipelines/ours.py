"""This product on the rig: its own processes, as `ensemble up` starts them."""

import json
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
processes = {combiners}
# Many processes that start at once on a few cores take their time.
start_up_ms = 60000

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
        copies: how many processes of each worker share the partitions.
        combiners: how many combiners share the partitions.
        partitions: of its topics.
    """

    name: str
    delivery: str = "exactly_once"
    strategy: str = "weighted_mean"
    processes: int = 1
    copies: int = 1
    combiners: int = 1
    partitions: int = PARTITIONS

    @property
    def events(self) -> str:
        """The input topic."""
        return f"{self.name}-events"

    @property
    def predictions(self) -> str:
        """The topic of the models' answers."""
        return f"{self.name}-predictions"

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
                partitions=self.partitions,
                combiners=self.combiners,
                strategy=self.strategy,
                delivery=self.delivery,
                models="".join(f'[[models]]\nname = "{model}"\n' for model in models),
                workers="".join(
                    f'[[workers]]\nname = "w{index}"\nmodels = {json.dumps(share)}\n'
                    f"processes = {self.copies}\n"
                    for index, share in enumerate(shares)
                ),
            )
        )
        per_partition = dict.fromkeys((self.events, self.predictions, self.scored), self.partitions)
        single = dict.fromkeys((f"{self.name}-{part}" for part in ("dead", "health", "control")), 1)
        rig.create_topics(per_partition | single)
        return config

    @contextmanager
    def running(
        self, rig: Rig, config: Path, roles: tuple[str, ...] = ("worker", "combiner")
    ) -> Iterator[Processes]:
        """Workers and combiners, once they are ready; the monitor only reads and is left out.

        They begin with a backlog at once: whoever reads their scores should be there before.
        """
        from cli.configuration import load_settings
        from cli.up import programs_of
        from streams.embedded.child import free_ports

        programs = [
            program
            for program in programs_of(load_settings(config), config)
            if program.name.startswith(roles)
        ]
        ports = dict(
            zip([program.name for program in programs], free_ports(len(programs)), strict=True)
        )
        with processes() as running:
            for program in programs:
                log = rig.directory / f"{self.name}-{program.name}.log"
                command = [*program.command, "--metrics-port", str(ports[program.name])]
                running.start(program.name, command, log)
            running.await_ready(ports)
            yield running
