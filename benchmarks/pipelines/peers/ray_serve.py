"""Ray Serve: each event asks one deployment, which asks five that batch; at least once."""

import asyncio
import os
import secrets

# Read when Ray is imported: it reports nothing to its makers, and no key stays in the user's home.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import numpy as np
import ray
from confluent_kafka import Consumer, Producer
from members import Ensemble, arguments, decode, encode
from ray import serve

# Shares, not cores: the replicas get along with those there are, as all contestants do.
SMALL = {"ray_actor_options": {"num_cpus": 0.01}, "max_ongoing_requests": 2000}


@serve.deployment(**SMALL)
class Member:
    """One model, in batches of what comes within 10 ms."""

    def __init__(self, given, place):
        self.model = Ensemble(given).models[place]

    @serve.batch(max_batch_size=500, batch_wait_timeout_s=0.01)
    async def __call__(self, rows):
        """Answers to some events."""
        return self.model.predict(np.array(rows)).tolist()


@serve.deployment(**SMALL)
class Mean:
    """All models, and their mean."""

    def __init__(self, *members):
        self.members = members

    async def __call__(self, rows):
        """One event, or several as a matrix."""
        answers = await asyncio.gather(*(member.remote(rows) for member in self.members))
        return np.mean(answers, axis=0)


async def one_by_one(mean, matrix):
    """A request for each event, all under way at once."""
    return await asyncio.gather(*(mean.remote(row) for row in matrix))


async def run(member, ask, at_once):
    """From events to scores: `ask` has the application score a matrix of `at_once` events."""
    given = arguments()
    ensemble = Ensemble(given)
    ray.init(
        include_dashboard=False, log_to_driver=False, _temp_dir=str(given.bundle.parent / "ray")
    )
    # Nobody asks over HTTP.
    serve.start(http_options={"location": "NoServer"})
    members = [
        member.options(name=model.name).bind(given, place)
        for place, model in enumerate(ensemble.models)
    ]
    mean = serve.run(Mean.bind(*members))
    consumer = Consumer(
        {
            "bootstrap.servers": given.servers,
            "group.id": "ray",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([given.events])
    producer = Producer({"bootstrap.servers": given.servers})
    while True:
        messages = await asyncio.to_thread(consumer.consume, at_once, 0.05)
        rows = [decode(message.value()) for message in messages if message.error() is None]
        if not rows:
            continue
        scores = await ask(mean, ensemble.matrix(rows))
        for row, score in zip(rows, scores, strict=True):
            producer.produce(given.scored, encode({"id": row["id"], "score": float(score)}))
        producer.flush()
        consumer.commit(asynchronous=True)


if __name__ == "__main__":
    asyncio.run(run(Member, one_by_one, 1000))
