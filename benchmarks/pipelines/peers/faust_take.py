"""Faust: one agent takes up to 500 events, scores them with all models, sends each score."""

import faust
from members import Ensemble, arguments, decode, encode

given = arguments()
ensemble = Ensemble(given)
app = faust.App("faust-take", broker=f"kafka://{given.servers}", store="memory://",
                topic_partitions=4, web_enabled=False,
                consumer_auto_offset_reset="earliest")  # fmt: skip
events = app.topic(given.events, value_serializer="raw")
scored = app.topic(given.scored, value_serializer="raw")


@app.agent(events)
async def score(stream):
    """In batches."""
    async for values in stream.take(500, within=0.05):
        rows = [decode(value) for value in values]
        for row, result in zip(rows, ensemble.scores(ensemble.matrix(rows)), strict=True):
            await scored.send(value=encode({"id": row["id"], "score": result}))


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
