"""The catalogue of signals as Prometheus metrics, and the page where one process shows them.

Each process has one `Metrics` and one port; sums over processes are the reader's business.
"""

import errno
import logging
import socket
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streams import signals
from streams.errors import ConfigurationError
from streams.signals import Signal

log = logging.getLogger(__name__)

# Processes of one machine take consecutive ports; more than this many are not expected.
PORTS_TRIED = 100

# When each series began doubles the page and is of no use here.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Histogram:
    """One labelled histogram; takes whole arrays, which the usual one does not."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._buckets = buckets
        self._limits = np.array(buckets, dtype=np.float64)
        self._counts = np.zeros(len(buckets) + 1, dtype=np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count one value."""
        place = bisect_left(self._buckets, value)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def observe_many(self, values: NDArray[np.float64]) -> None:
        """Count each of float64[N]; NaN is nothing."""
        values = values[~np.isnan(values)]
        places = np.searchsorted(self._limits, values)
        counts = np.bincount(places, minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(values.sum())

    def snapshot(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper limit, as Prometheus wants them, and the sum."""
        with self._lock:
            totals, total = np.cumsum(self._counts).tolist(), self._sum
        limits = [*(f"{limit:g}" for limit in self._limits.tolist()), "+Inf"]
        return list(zip(limits, map(float, totals), strict=True)), total


class _Histograms(Collector):
    """All series of one histogram signal."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self.children: dict[tuple[str, ...], Histogram] = {}
        if not signal.labels:
            self.child(())

    def child(self, labels: tuple[str, ...]) -> Histogram:
        found = self.children.get(labels)
        # Made for nothing where it is there, by whoever asks at the same time.
        return found or self.children.setdefault(labels, Histogram(self._signal.buckets))

    def collect(self) -> Iterator[HistogramMetricFamily]:
        signal = self._signal
        family = HistogramMetricFamily(signal.name, signal.help, labels=signal.labels)
        for labels, child in list(self.children.items()):
            buckets, total = child.snapshot()
            family.add_metric(labels, buckets, total)
        yield family


class Metrics:
    """Every signal of the catalogue, in a registry of its own.

    `metrics.counter(signals.PREDICTIONS, "forest").inc(3)`: labels by position, in the order of
    the catalogue. A series is made at its first use.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, _Histograms] = {}
        for signal in signals.CATALOGUE:
            self._add(signal)

    def _add(self, signal: Signal) -> None:
        name, text, labels = signal.name, signal.help, signal.labels
        if signal.kind == "counter":
            self._counters[name] = Counter(name, text, labels, registry=self.registry)
        elif signal.kind == "gauge":
            self._gauges[name] = Gauge(name, text, labels, registry=self.registry)
        else:
            self._histograms[name] = _Histograms(signal)
            self.registry.register(self._histograms[name])

    def counter(self, signal: Signal, *labels: str) -> Counter:
        """The counter of a signal with these label values."""
        family = self._counters[signal.name]
        return family.labels(*labels) if labels else family

    def gauge(self, signal: Signal, *labels: str) -> Gauge:
        """The gauge of a signal with these label values."""
        family = self._gauges[signal.name]
        return family.labels(*labels) if labels else family

    def histogram(self, signal: Signal, *labels: str) -> Histogram:
        """The histogram of a signal with these label values."""
        assert len(labels) == len(signal.labels), (signal.name, labels)
        return self._histograms[signal.name].child(labels)

    def observe_many(self, signal: Signal, values: NDArray[np.float64], *labels: str) -> None:
        """Count each of float64[N] in a histogram."""
        self.histogram(signal, *labels).observe_many(values)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, metrics: Metrics, ready: Callable[[], bool]) -> None:
        self.metrics, self.ready = metrics, ready
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    # A reader that stops in the middle of its request is given up, in seconds.
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.metrics.registry), content_type)
        elif path == "/livez":
            self._answer(200, b"alive\n")
        elif path == "/readyz":
            ready = self.server.ready()
            self._answer(200 if ready else 503, b"ready\n" if ready else b"not ready\n")
        else:
            self._answer(404, b"expected /metrics, /livez or /readyz\n")

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        log.debug(format, *args)


class MetricsServer:
    """The HTTP end of one process: `/metrics`, `/livez`, `/readyz`."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.port: int = server.server_address[1]
        self._thread = threading.Thread(
            target=server.serve_forever, name="metrics", daemon=True, kwargs={"poll_interval": 0.1}
        )
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def serve(
    metrics: Metrics, host: str, port: int, ready: Callable[[], bool] = lambda: True
) -> MetricsServer:
    """Show `metrics` on `host`, on the first free port from `port` on; 0 takes any.

    `/livez` answers while the process runs; `/readyz` is 200 or 503, as `ready` says.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    candidates = range(port, min(port + PORTS_TRIED, 65_536)) if port else range(1)
    for candidate in candidates:
        try:
            server = MetricsServer(_Server(host, candidate, metrics, ready))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ConfigurationError("metrics.host", f"cannot listen on {host}: {error}") from error
        log.info("metrics on http://%s:%d/metrics", host, server.port)
        return server
    raise ConfigurationError("metrics", f"no free port of {host} from {port} on")
