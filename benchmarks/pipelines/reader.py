"""Reads scores as any consumer would, and writes down when each could be read.

python -m benchmarks.pipelines.reader SERVERS TOPIC COUNT OUT KNOWN
"""

import sys
import time

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.pipelines.rig import partitions_of

# A contestant that says nothing for so long is done, or stuck.
SILENCE_S = 60.0


class Scored(msgspec.Struct):
    """What is looked at; peers know no fallback."""

    id: str
    fallback: str = "none"


def main(servers: str, topic: str, count: str, out: str, known: str) -> None:
    """Until all of 0 to `count` are there, or nothing came for long.

    Says so once it has the `known` ones: a reader that has to catch up sees everything late.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench-reader",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions_of(consumer, topic))])
    decode = msgspec.json.Decoder(Scored).decode
    # Millions of numbers as arrays: a set that grows keeps the reader from reading meanwhile.
    ids: list[NDArray[np.int64]] = []
    arrived: list[NDArray[np.int64]] = []
    seen = np.zeros(int(count), dtype=np.bool_)
    distinct = fallbacks = 0
    newest = time.monotonic()
    caught_up = False
    while distinct < len(seen) and time.monotonic() < newest + SILENCE_S:
        if not caught_up and distinct >= int(known):
            caught_up = True
            print("caught up", flush=True)
        messages = consumer.consume(1, 0.1)
        if not messages:
            continue
        newest = time.monotonic()
        messages += consumer.consume(4999, 0)
        now_ns = time.time_ns()
        scores = [decode(m.value()) for m in messages if m.error() is None]
        new = np.array([int(score.id) for score in scores], dtype=np.int64)
        ids.append(new)
        arrived.append(np.full(len(new), now_ns))
        first = np.unique(new[~seen[new]])
        seen[first] = True
        distinct += len(first)
        fallbacks += sum(score.fallback != "none" for score in scores)
    consumer.close()
    empty = np.empty(0, dtype=np.int64)
    np.savez(
        out,
        ids=np.concatenate([empty, *ids]),
        arrived_ns=np.concatenate([empty, *arrived]),
        fallbacks=fallbacks,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
