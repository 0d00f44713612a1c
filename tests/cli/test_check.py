"""What `ensemble check` says of topics."""

from typing import Any

from cli.check import topic_findings
from streams.admin import TopicState, wanted_topics
from streams.settings import Settings


def settings(**tables: Any) -> Settings:
    models = [{"name": name, "external": True} for name in "ab"]
    return Settings.model_validate({"models": models, **tables})


def states(found: Settings, **partitions: int) -> dict[str, TopicState]:
    """All topics as they should be, but for some numbers of partitions."""
    wanted = wanted_topics(found.topics, cascade=found.cascade.on)
    return {
        topic.name: TopicState(
            topic.name, partitions.get(topic.name, topic.partitions), 1, topic.cleanup, 1
        )
        for topic in wanted
    }


def test_escalations_are_wanted_with_a_cascade_alone() -> None:
    without, with_one = settings(), settings(cascade={"heavy": ["b"]})
    names = [name for found in (without, with_one) for name in states(found)]
    assert names.count("escalations") == 1
    for found in (without, with_one):
        assert all(finding.ok for finding in topic_findings(found, states(found)))


def test_escalations_must_exist_and_have_as_many_partitions() -> None:
    found = settings(cascade={"heavy": ["b"]})
    there = states(found, escalations=5)
    [wrong] = [finding for finding in topic_findings(found, there) if not finding.ok]
    assert (wrong.check, wrong.exit_code) == ("topic escalations", 5)
    assert wrong.detail == "5 partitions, but predictions has 4"
    assert wrong.advice.startswith("give escalations and predictions equal partition counts")
    del there["escalations"]
    [wrong] = [finding for finding in topic_findings(found, there) if not finding.ok]
    assert wrong.detail == "does not exist"
