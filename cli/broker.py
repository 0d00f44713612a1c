"""`ensemble broker`: a real Kafka and a real Redis in the foreground, from packages alone."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

KAFKA_PORT = 9092
REDIS_PORT = 6379
DIRECTORY = Path("run")


def broker(
    *,
    directory: Annotated[
        Path, typer.Option(help="Where data and logs are kept over restarts.")
    ] = DIRECTORY,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of Kafka; 0 picks a free one.")
    ] = KAFKA_PORT,
    redis_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of Redis; 0 picks a free one.")
    ] = REDIS_PORT,
    redis: Annotated[bool, typer.Option(help="Whether to start Redis at all.")] = True,
) -> None:
    """Run an embedded Kafka broker and Redis on this machine, until SIGTERM or Ctrl-C.

    For first steps and tests: one broker, loopback only, no password.
    """
    from cli.stopping import stop_event
    from streams.embedded import EmbeddedKafka, EmbeddedRedis
    from streams.errors import BrokerError, CacheError

    with stop_event() as stop, ExitStack() as stack:
        kafka = stack.enter_context(EmbeddedKafka(directory / "kafka", port))
        typer.echo(f"kafka {kafka.bootstrap_servers}")
        server = (
            stack.enter_context(EmbeddedRedis(directory / "redis", redis_port)) if redis else None
        )
        if server is not None:
            typer.echo(f"redis {server.url}")
        # Nobody tells when a server ends by itself; a glance a second is soon enough.
        while not stop.wait(1.0):
            if not kafka.running:
                raise BrokerError(f"Kafka ended by itself; see {kafka.log_path}")
            if server is not None and not server.running:
                raise CacheError(f"Redis ended by itself; see {directory / 'redis'}")
