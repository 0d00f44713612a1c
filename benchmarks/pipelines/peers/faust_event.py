"""Faust: one agent scores one event at a time with all models."""

import faust
from members import Ensemble, arguments, decode, encode

given = arguments()
ensemble = Ensemble(given)
app = faust.App("faust-event", broker=f"kafka://{given.servers}", store="memory://",
                topic_partitions=4, web_enabled=False,
                consumer_auto_offset_reset="earliest")  # fmt: skip
events = app.topic(given.events, value_serializer="raw")
scored = app.topic(given.scored, value_serializer="raw")


@app.agent(events)
async def score(stream):
    """One by one."""
    async for value in stream:
        row = decode(value)
        result = ensemble.scores(ensemble.matrix([row]))[0]
        await scored.send(value=encode({"id": row["id"], "score": result}))


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
