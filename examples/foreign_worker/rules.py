"""A member of the ensemble that knows nothing of this product: confluent-kafka and json, no more.

It reads the events, scores each with a rule of thumb, and writes its answers to `predictions`, on
the event's own partition. In `ensemble.toml` it is

    [[models]]
    name = "rules"
    external = true

Run it with `python rules.py BOOTSTRAP_SERVERS [EVENTS_TOPIC PREDICTIONS_TOPIC]`.
"""

import json
import signal
import sys

from confluent_kafka import Consumer, Producer

MODEL, VERSION = "rules", "1"


def score(event: dict[str, object]) -> float:
    """Customers two months behind with their payments rarely catch up."""
    months_behind = event.get("PAY_0")
    if not isinstance(months_behind, (int, float)):
        raise TypeError("PAY_0 is missing or no number")
    return min(max(0.15 + 0.25 * months_behind, 0.02), 0.9)


def answer(topic: str, partition: int, offset: int, value: bytes | None) -> bytes:
    """One prediction as JSON. A null score is a refusal: then nobody waits for this member."""
    frame: dict[str, object] = {
        "model": MODEL,
        "version": VERSION,
        "topic": topic,
        "partition": partition,
        "offsets": [offset],
    }
    try:
        frame["scores"] = [score(json.loads(value or b""))]
    except (ValueError, TypeError, AttributeError) as error:
        frame["scores"] = [None]
        frame["refusals"] = {"0": str(error)}
    return json.dumps(frame).encode()


def main(servers: str, events: str = "events", predictions: str = "predictions") -> None:
    """Answer events until SIGTERM or Ctrl-C."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"worker.{MODEL}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1})
    consumer.subscribe([events])
    try:
        while not stopping:
            # One record at once, then whatever else has come: low latency and large batches.
            messages = consumer.consume(1, 0.1) + consumer.consume(499, 0)
            for message in messages:
                if message.error() is None:
                    producer.produce(
                        predictions,
                        answer(
                            message.topic(),
                            message.partition(),
                            message.offset(),
                            message.value(),
                        ),
                        key=message.key(),
                        partition=message.partition(),
                    )
            if messages:
                # First the answers, then the offsets: a crash repeats answers, which is harmless.
                producer.flush(10)
                consumer.commit(asynchronous=True)
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
