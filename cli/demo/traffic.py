"""The demo's own producer and consumer: what a user's systems would be."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from cli.demo.stage import AWAY, ID, Stage
from cli.demo.summary import Observations, Seen
from cli.pacing import Pace
from streams.columns import Columns, columns_of
from streams.sink import Sink
from streams.source import Source

if TYPE_CHECKING:
    from streams.records import HealthRecord

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_FETCH_RECORDS = 2000
_FETCH_WAIT_S = 0.05
_FLUSH_S = 10.0


class _Scored(msgspec.Struct):
    """The fields of a scored record that the demo looks at."""

    id: str
    score: float
    fallback: str
    missing: dict[str, str] = {}
    predictions: dict[str, float] = {}


class Producer:
    """Sends rows as events at a steady rate, each with an id of its own.

    Args:
        stage: where to.
        rows: JSON events without an id; sent again and again in order.
        sent_ns: wall time of each event, appended as it is sent.
        observed: told the phase of each event.
    """

    def __init__(
        self, stage: Stage, rows: Sequence[bytes], sent_ns: list[int], observed: Observations
    ) -> None:
        self._topic = stage.settings.topics.inputs[0]
        self._sink = Sink(stage.settings.kafka)
        self._rows = [row.removeprefix(b"{") for row in rows]
        self._sent_ns = sent_ns
        self.observed = observed
        self.phase = 0

    def send(self, rate_per_s: float, seconds: float, going_on: Callable[[], bool]) -> None:
        """Send for some seconds."""
        start_ns = time.monotonic_ns()
        end_ns = start_ns + round(seconds * _NS_PER_S)
        pace = Pace(rate_per_s, start_ns)
        while (now_ns := time.monotonic_ns()) < end_ns and going_on():
            for _ in range(pace.due(now_ns)):
                self._send_one()
            self._sink.poll()
            time.sleep(pace.wait_ns(time.monotonic_ns()) / _NS_PER_S)
        self._sink.flush(_FLUSH_S)

    def _send_one(self) -> None:
        number = len(self._sent_ns)
        row = self._rows[number % len(self._rows)]
        value = b'{"%s":"event-%d",%s' % (ID.encode(), number, row)
        self.observed.phase_of.append(self.phase)
        self._sent_ns.append(time.time_ns())
        self._sink.produce(self._topic, value=value, key=b"customer-%d" % (number % 10_000))

    def close(self) -> None:
        """Deliver what waits."""
        self._sink.close()


class Reader:
    """Reads scores, dead letters and health on a thread of its own, as any consumer would.

    Args:
        stage: where from.
        sent_ns: wall time of each event.
        observed: where findings go.
    """

    def __init__(self, stage: Stage, sent_ns: Sequence[int], observed: Observations) -> None:
        from streams.records import HealthRecord

        self._topics = stage.settings.topics
        self._sent_ns = sent_ns
        self._observed = observed
        self._decode = msgspec.json.Decoder(_Scored).decode
        self._decode_health = msgspec.json.Decoder(HealthRecord).decode
        self._source = Source(
            stage.settings.kafka,
            group="demo",
            topics=[self._topics.scored, self._topics.dead_letters, self._topics.health],
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader")
        self.health: dict[str, HealthRecord] = {}
        self.failure: Exception | None = None
        self.away_since_s: float | None = None
        self.back_since_s: float | None = None
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for columns in columns_of(self._source.fetch(_FETCH_RECORDS, _FETCH_WAIT_S)):
                    self._take(columns, time.time_ns())
            self._source.close()
        except Exception as error:  # noqa: BLE001 -- raised on the main thread
            self.failure = error

    def _take(self, columns: Columns, now_ns: int) -> None:
        topic = columns.place[0]
        if topic == self._topics.dead_letters:
            self._observed.dead += len(columns)
        elif topic == self._topics.health:
            for value in columns.values:
                self._health(self._decode_health(value or b""))
        else:
            for value in columns.values:
                self._scored(self._decode(value or b""), now_ns)

    def _scored(self, record: _Scored, now_ns: int) -> None:
        found = re.fullmatch(r"event-(\d+)", record.id)
        number = int(found[1]) if found else -1
        if not 0 <= number < len(self._sent_ns):
            self._observed.unknown += 1
            return
        self._observed.seen.append(
            Seen(
                number,
                (now_ns - self._sent_ns[number]) / _NS_PER_MS,
                record.score,
                record.fallback,
                tuple(record.missing),
                record.predictions,
            )
        )

    def _health(self, record: "HealthRecord") -> None:
        self.health[record.model] = record
        if record.model != AWAY:
            return
        now_s, observed = time.monotonic(), self._observed
        if record.state == "FAILED" and self.away_since_s and observed.failed_after_s is None:
            observed.failed_after_s = round(now_s - self.away_since_s, 1)
        if record.state == "HEALTHY" and self.back_since_s and observed.recovered_after_s is None:
            observed.recovered_after_s = round(now_s - self.back_since_s, 1)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
