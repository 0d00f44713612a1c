"""Client properties: ours, the user's on top, secrets from files; and Faust's view of them."""

import logging
import ssl

import faust
import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.app import credentials, make_app
from streams.client import Watch, is_passing, plain_errors, translated
from streams.consumers import consumer_config
from streams.errors import AccessError, BrokerError, ConfigurationError, FencedError
from streams.settings import KafkaSettings
from streams.sink import Sink, producer_config
from streams.source import Source
from tests.fatal import fail_for_good


def test_the_users_properties_win_and_go_where_they_belong():
    kafka = KafkaSettings(
        bootstrap_servers="a:1,b:2",
        properties={"client.id": "all", "linger.ms": 3},
        consumer={"session.timeout.ms": 9000},
        producer={"client.id": "mine"},
    )
    consumer, producer = consumer_config(kafka, "g", "g.0"), producer_config(kafka)
    assert consumer["bootstrap.servers"] == producer["bootstrap.servers"] == "a:1,b:2"
    assert consumer["client.id"] == "all"
    assert producer["client.id"] == "mine"
    assert producer["linger.ms"] == 3
    assert consumer["session.timeout.ms"] == 9000
    assert "session.timeout.ms" not in producer
    assert consumer["group.id"] == "g"
    assert consumer["group.instance.id"] == "g.0"
    assert consumer["enable.auto.commit"] is False
    assert "group.instance.id" not in consumer_config(kafka, "g")


@pytest.mark.parametrize("part", ["properties", "consumer", "producer"])
def test_what_the_product_promises_by_is_not_the_users(part):
    kafka = KafkaSettings.model_validate({part: {"enable.auto.commit": True}})
    expected = rf"kafka\.{part}\.enable\.auto\.commit: is set by this product"
    with pytest.raises(ConfigurationError, match=expected):
        (producer_config if part == "producer" else lambda k: consumer_config(k, "g"))(kafka)


def test_a_secret_is_read_from_its_file(tmp_path):
    path = tmp_path / "secret"
    path.write_text("s3cret with spaces \n")
    kafka = KafkaSettings(properties={"sasl.password": f"file:{path}"})
    assert producer_config(kafka)["sasl.password"] == "s3cret with spaces "


def test_a_secret_without_a_file_is_named_by_its_setting(tmp_path):
    kafka = KafkaSettings(properties={"sasl.password": f"file:{tmp_path / 'none'}"})
    with pytest.raises(ConfigurationError, match=r"kafka\.properties\.sasl\.password: cannot read"):
        producer_config(kafka)


def test_the_new_group_protocol_gets_nothing_it_objects_to():
    kafka = KafkaSettings(consumer={"group.protocol": "consumer"})
    properties = consumer_config(kafka, "g")
    assert "session.timeout.ms" not in properties
    assert "partition.assignment.strategy" not in properties
    assert properties["group.remote.assignor"] == "range"
    Source(kafka, group="g", topics=["t"]).close()


def test_an_unknown_property_is_a_mistake_in_the_configuration():
    kafka = KafkaSettings(properties={"no.such.thing": 1})
    with pytest.raises(ConfigurationError, match=r'No such configuration property: "no.such.thing'):
        Sink(kafka)
    with pytest.raises(ConfigurationError, match=r'No such configuration property: "no.such.thing'):
        Source(kafka, group="g", topics=["t"])


def test_errors_are_translated_and_keep_their_text():
    denied = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"))
    assert str(translated(denied, "topic t")) == "topic t: no"
    assert type(translated(denied, "x")) is AccessError
    refused = KafkaException(KafkaError(KafkaError.INVALID_CONFIG, "no"))
    assert type(translated(refused, "x")) is BrokerError
    fenced = KafkaError(KafkaError.FENCED_INSTANCE_ID, "replaced")
    assert isinstance(translated(fenced, "x"), FencedError)
    assert str(translated(KafkaException("odd"), "x")) == "x: odd"


def test_a_watch_raises_what_does_not_pass():
    watch = Watch("consumer")
    passing = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 down")
    assert is_passing(passing)
    watch.on_error(passing)
    watch.check()
    watch.on_error(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    watch.on_error(KafkaError(KafkaError._SSL, "later"))
    with pytest.raises(BrokerError, match="consumer: wrong password"):
        watch.check()


def test_who_is_fenced_after_an_outage_has_not_met_another_process():
    fenced = KafkaError(KafkaError.FENCED_INSTANCE_ID, "replaced")
    away = []
    watch = Watch("group g", on_away=lambda: away.append(1))
    assert isinstance(watch.explained(fenced, "x"), FencedError)
    watch.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 down"))
    assert away == [1]
    watch.on_error(fenced)
    with pytest.raises(BrokerError, match="group g: lost its place while no broker answered"):
        watch.check()
    assert type(watch.explained(fenced, "x")) is BrokerError


def test_faust_is_given_the_same_brokers():
    app = make_app("test", KafkaSettings(bootstrap_servers="a:1, b:2"))
    assert [str(url) for url in app.conf.broker] == ["kafka://a:1", "kafka://b:2"]
    assert app.conf.broker_credentials is None
    assert not app.conf.web_enabled


def test_faust_is_given_the_same_credentials():
    given = credentials(
        {
            "security.protocol": "sasl_ssl",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": "pw",
            "enable.ssl.certificate.verification": "false",
        }
    )
    assert isinstance(given, faust.SASLCredentials)
    assert (given.username, given.password) == ("me", "pw")
    assert given.mechanism.value == "SCRAM-SHA-512"
    assert given.protocol.value == "SASL_SSL"
    assert given.ssl_context is not None
    assert given.ssl_context.verify_mode == ssl.CERT_NONE
    plain = credentials(
        {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": "me",
            "sasl.password": "pw",
        }
    )
    assert isinstance(plain, faust.SASLCredentials)
    assert plain.ssl_context is None
    only = credentials(
        {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"}
    )
    assert isinstance(only, faust.SSLCredentials)
    assert not only.context.check_hostname
    assert only.context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("properties", "problem"),
    [
        ({"security.protocol": "TELNET"}, "security.protocol: 'TELNET'; expected one of PLAIN"),
        ({"security.protocol": "SASL_SSL"}, "sasl.mechanism: 'GSSAPI' is not supported"),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "me"},
            "sasl.password: is missing",
        ),
        ({"security.protocol": "SSL", "ssl.ca.location": "/no/ca"}, "certificates cannot be read"),
    ],
)
def test_what_faust_cannot_do_is_said(properties, problem):
    with pytest.raises(ConfigurationError, match=problem):
        credentials(properties)


@pytest.mark.parametrize("ask", [lambda sink: sink.poll(0.5), lambda sink: sink.flush(0.5)])
def test_a_client_that_fails_for_good_says_why(ask, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is told while log lines wait; Python would take it for a fault of theirs."""
    caplog.set_level(logging.DEBUG)
    sink = Sink(KafkaSettings(bootstrap_servers="127.0.0.1:1", properties={"debug": "all"}))
    sink.produce("t", value=b"waits")
    fail_for_good(sink._producer)
    with pytest.raises(BrokerError, match=r"cannot produce: .*(told to|reason was lost)"):
        ask(sink)
    sink.close(0.1)


def test_a_reason_that_was_lost_is_no_strangers_error() -> None:
    with pytest.raises(KafkaException, match="failed for good"), plain_errors():
        raise SystemError("<method 'flush'> returned NULL without setting an exception")


def test_what_is_no_error_of_a_client_stays_as_it_is() -> None:
    with pytest.raises(SystemError, match="mine"), plain_errors():
        raise SystemError("mine")
