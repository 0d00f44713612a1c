"""Signals as Prometheus sees them."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from prometheus_client.parser import text_string_to_metric_families

from streams import signals
from streams.errors import ConfigurationError
from streams.metrics import Histogram, Metrics, MetricsServer, serve


@contextmanager
def serving(metrics: Metrics, port: int = 0, **options) -> Iterator[MetricsServer]:
    server = serve(metrics, "127.0.0.1", port, **options)
    try:
        yield server
    finally:
        server.close()


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    status, body = answer.status, answer.read().decode()
    connection.close()
    return status, body


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """What a scrape finds, by name and label values."""
    with serving(metrics) as server:
        status, body = get(server.port, "/metrics")
    assert status == 200
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_every_signal_of_the_catalogue_is_there():
    metrics = Metrics()
    for signal in signals.CATALOGUE:
        labels = ["x"] * len(signal.labels)
        match signal.kind:
            case "counter":
                metrics.counter(signal, *labels).inc(2)
            case "gauge":
                metrics.gauge(signal, *labels).set(3)
            case "histogram":
                metrics.histogram(signal, *labels).observe(4)
    found = samples(metrics)
    for signal in signals.CATALOGUE:
        labels = ",".join(["x"] * len(signal.labels))
        match signal.kind:
            case "counter":
                assert found[signal.name, labels] == 2
            case "gauge":
                assert found[signal.name, labels] == 3
            case "histogram":
                assert found[signal.name + "_sum", labels] == 4
                assert found[signal.name + "_count", labels] == 1
    assert found["process_resident_memory_bytes", ""] > 0


def test_series_of_one_signal_are_apart():
    metrics = Metrics()
    metrics.counter(signals.REFUSALS, "forest", "raised").inc()
    metrics.counter(signals.REFUSALS, "forest", "paused").inc(5)
    found = samples(metrics)
    assert found["ensemble_refusals_total", "forest,raised"] == 1
    assert found["ensemble_refusals_total", "forest,paused"] == 5


@given(
    hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(-1, 20) | st.just(np.nan)),
)
def test_counting_an_array_is_counting_each_of_it(values):
    one, many = (Histogram(signals.LATENCY_BUCKETS_S) for _ in range(2))
    for value in values[~np.isnan(values)].tolist():
        one.observe(value)
    many.observe_many(values)
    buckets, total = many.snapshot()
    assert buckets == one.snapshot()[0]
    assert total == pytest.approx(one.snapshot()[1])
    for limit, count in buckets:
        assert count == (values <= float(limit)).sum()


def test_readiness_is_asked_for_each_time():
    ready = [False, True]
    with serving(Metrics(), ready=lambda: ready.pop(0)) as server:
        assert get(server.port, "/livez") == (200, "alive\n")
        assert get(server.port, "/readyz") == (503, "not ready\n")
        assert get(server.port, "/readyz?verbose") == (200, "ready\n")
        assert get(server.port, "/other")[0] == 404


def test_a_port_that_is_taken_leads_to_the_next_one():
    with serving(Metrics()) as first, serving(Metrics(), first.port) as second:
        assert second.port > first.port
        assert get(second.port, "/livez")[0] == 200


def test_an_address_that_is_not_ours_is_a_mistake():
    with pytest.raises(ConfigurationError, match=r"metrics\.host: cannot listen on 192\.0\.2\.1"):
        serve(Metrics(), "192.0.2.1", 0)


def test_a_reader_that_says_nothing_does_not_hold_up_the_others():
    with serving(Metrics()) as server, socket.create_connection(("127.0.0.1", server.port)):
        assert get(server.port, "/livez")[0] == 200
