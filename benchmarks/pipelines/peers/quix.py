"""Quix Streams: a streaming data frame, one event at a time."""

from members import Ensemble, arguments
from quixstreams import Application

given = arguments()
ensemble = Ensemble(given)


def score(row):
    """One event."""
    return {"id": row["id"], "score": ensemble.scores(ensemble.matrix([row]))[0]}


app = Application(
    broker_address=given.servers,
    consumer_group="quix",
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    commit_interval=0.1,
)
frame = app.dataframe(app.topic(given.events, value_deserializer="json", key_deserializer="bytes"))
frame = frame.apply(score)
frame.to_topic(app.topic(given.scored, value_serializer="json", key_serializer="bytes"))

if __name__ == "__main__":
    app.run()
