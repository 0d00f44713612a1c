"""Faust: five agents, one per model, take up to 500 events; a sixth joins their answers by id."""

import faust
from members import Ensemble, arguments, decode, encode

given = arguments()
ensemble = Ensemble(given)
app = faust.App("faust-agents", broker=f"kafka://{given.servers}", store="memory://",
                topic_partitions=4, web_enabled=False,
                consumer_auto_offset_reset="earliest")  # fmt: skip
events = app.topic(given.events, value_serializer="raw")
predictions = app.topic(f"{given.scored}-predictions", value_serializer="raw", partitions=4)
scored = app.topic(given.scored, value_serializer="raw")
pending: dict[str, list[float]] = {}


def add_agent(model):
    """The agent of one model."""

    async def predict(stream):
        async for values in stream.take(500, within=0.05):
            rows = [decode(value) for value in values]
            answers = model.predict(ensemble.matrix(rows)).tolist()
            for row, answer in zip(rows, answers, strict=True):
                await predictions.send(
                    key=row["id"].encode(), value=encode({"id": row["id"], "score": answer})
                )

    app.agent(events, name=model.name)(predict)


for member in ensemble.models:
    add_agent(member)


@app.agent(predictions)
async def combine(stream):
    """The mean once all are there."""
    async for value in stream:
        row = decode(value)
        answers = pending.setdefault(row["id"], [])
        answers.append(row["score"])
        if len(answers) == len(ensemble.models):
            del pending[row["id"]]
            mean = sum(answers) / len(answers)
            await scored.send(value=encode({"id": row["id"], "score": mean}))


if __name__ == "__main__":
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
