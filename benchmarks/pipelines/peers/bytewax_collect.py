"""Bytewax: everything in one process, in batches collected by size or 50 ms; at least once."""

from datetime import timedelta

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main
from members import Ensemble, arguments, decode, encode

given = arguments()
ensemble = Ensemble(given)


def score(keyed):
    """One batch."""
    _, messages = keyed
    rows = [decode(message.value) for message in messages]
    scores = ensemble.scores(ensemble.matrix(rows))
    return [
        KafkaSinkMessage(None, encode({"id": row["id"], "score": result}))
        for row, result in zip(rows, scores, strict=True)
    ]


flow = Dataflow("bytewax")
source = KafkaSource([given.servers], [given.events], batch_size=5000)
stream = op.input("in", flow, source)
keyed = op.key_on("key", stream, lambda message: str(message.partition))
batches = op.collect("collect", keyed, timedelta(milliseconds=50), 500)
results = op.flat_map("score", batches, score)
op.output("out", results, KafkaSink([given.servers], given.scored))

if __name__ == "__main__":
    cluster_main(flow, [], 0)
