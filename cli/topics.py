"""`ensemble topics create | list | delete`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption

if TYPE_CHECKING:
    from streams.admin import TopicAdmin, TopicState, WantedTopic
    from streams.settings import Settings

app = typer.Typer(
    help="Make, list and delete the topics of the configuration.", no_args_is_help=True
)


def _wanted_and_states(
    settings: "Settings", admin: "TopicAdmin"
) -> "tuple[list[WantedTopic], dict[str, TopicState]]":
    from streams.admin import wanted_topics

    wanted = wanted_topics(settings.topics, cascade=settings.cascade.on)
    return wanted, admin.states(topic.name for topic in wanted)


@app.command()
def create(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Create the topics that do not exist; those that do are left as they are."""
    from cli import logs
    from cli.configuration import load_settings
    from streams.admin import TopicAdmin, differences

    logs.configure_command()
    settings = load_settings(config)
    admin = TopicAdmin(settings.kafka)
    wanted, states = _wanted_and_states(settings, admin)
    admin.create([topic for topic in wanted if topic.name not in states], settings.topics)
    for topic in wanted:
        state = states.get(topic.name)
        if state is None:
            typer.echo(f"{topic.name}: created, {topic.partitions} partitions, {topic.cleanup}")
            continue
        different = differences(topic, state, settings.topics)
        typer.echo(f"{topic.name}: exists" + (": " + "; ".join(different) if different else ""))


@app.command("list")
def list_(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the topics of the configuration as the broker has them."""
    from cli import logs
    from cli.configuration import load_settings
    from streams.admin import TopicAdmin

    logs.configure_command()
    settings = load_settings(config)
    wanted, states = _wanted_and_states(settings, TopicAdmin(settings.kafka))
    if json:
        import msgspec

        found = [
            {"role": topic.role, "exists": topic.name in states, "name": topic.name}
            | (asdict(states[topic.name]) if topic.name in states else {})
            for topic in wanted
        ]
        typer.echo(msgspec.json.encode(found).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("role", "topic", "partitions", "replicas", "cleanup", "retention", box=None)
    for topic in wanted:
        state = states.get(topic.name)
        if state is None:
            table.add_row(topic.role, topic.name, "does not exist")
            continue
        hours = f"{state.retention_ms / 3_600_000:g} h" if state.cleanup == "delete" else ""
        table.add_row(
            topic.role,
            topic.name,
            str(state.partitions),
            str(state.replication_factor),
            state.cleanup,
            hours,
        )
    Console().print(table)


@app.command()
def delete(
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the topics of the configuration with all their records."""
    from cli import logs
    from cli.configuration import load_settings
    from streams.admin import TopicAdmin

    logs.configure_command()
    settings = load_settings(config)
    admin = TopicAdmin(settings.kafka)
    _, states = _wanted_and_states(settings, admin)
    if not states:
        typer.echo("none of the topics exists")
        return
    names = ", ".join(states)
    if not yes:
        typer.confirm(
            f"Delete {names} with all records at {settings.kafka.bootstrap_servers}?", abort=True
        )
    admin.delete(list(states))
    typer.echo(f"deleted: {names}")
