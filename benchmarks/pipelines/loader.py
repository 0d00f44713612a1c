"""Sends events at a steady rate, each when its time has come, and writes down when.

python -m benchmarks.pipelines.loader SERVERS TOPIC RATE SECONDS FIRST_ID EVENTS OUT
"""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

from benchmarks.pipelines.rig import TIMEOUT_S, event_of, partitions_of

# To wake up for each of thousands of events a second would take a fifth of a core from the others.
TICK_S = 0.001


def main(
    servers: str, topic: str, rate: str, seconds: str, first_id: str, events: str, out: str
) -> None:
    """Send rate times seconds events."""
    values = [text.encode() for text in json.loads(Path(events).read_text())]
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 2, "acks": "all"})
    partitions = partitions_of(producer, topic)
    count, first = int(rate) * int(seconds), int(first_id)
    sent_ns = np.empty(count, dtype=np.int64)
    pause = threading.Event()
    began = time.perf_counter()
    sent = 0
    while sent < count:
        due = min(count, int((time.perf_counter() - began) * int(rate)) + 1)
        for number in range(sent, due):
            value = event_of(values, first + number)
            sent_ns[number] = time.time_ns()
            producer.produce(topic, value=value, partition=number % partitions)
        sent = due
        producer.poll(0)
        pause.wait(max(TICK_S, began + sent / int(rate) - time.perf_counter()))
    producer.flush(TIMEOUT_S)
    np.savez(out, ids=np.arange(first, first + count), sent_ns=sent_ns)


if __name__ == "__main__":
    main(*sys.argv[1:])
