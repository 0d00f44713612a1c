"""Reads scores as any consumer would, and writes down when each could be read.

python -m benchmarks.pipelines.reader SERVERS TOPIC COUNT OUT KNOWN
"""

import sys
import time

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.pipelines.rig import PARTITIONS

# A contestant that says nothing for so long is done, or stuck.
SILENCE_S = 60.0


class Scored(msgspec.Struct):
    """What is looked at."""

    id: str


def main(servers: str, topic: str, count: str, out: str, known: str) -> None:
    """Until there are `count` different ones, or nothing came for long.

    Says so once it has the `known` ones: a reader that has to catch up sees everything late.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench-reader",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
            "allow.auto.create.topics": True,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    decode = msgspec.json.Decoder(Scored).decode
    ids: list[int] = []
    arrived: list[int] = []
    seen: set[int] = set()
    newest = time.monotonic()
    caught_up = False
    while len(seen) < int(count) and time.monotonic() < newest + SILENCE_S:
        if not caught_up and len(seen) >= int(known):
            caught_up = True
            print("caught up", flush=True)
        messages = consumer.consume(1, 0.1)
        if not messages:
            continue
        newest = time.monotonic()
        messages += consumer.consume(4999, 0)
        now_ns = time.time_ns()
        new = [int(decode(m.value()).id) for m in messages if m.error() is None]
        ids += new
        seen.update(new)
        arrived += [now_ns] * len(new)
    consumer.close()
    np.savez(out, ids=np.array(ids, dtype=np.int64), arrived_ns=np.array(arrived, dtype=np.int64))


if __name__ == "__main__":
    main(*sys.argv[1:])
