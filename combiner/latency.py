"""Where the time between an event and its score went, stage by stage.

    event ─▶ to_worker ─▶ queue ─▶ model ─▶ to_combiner ─▶ combiner ─▶ score

The stages follow one answer, of which the others were no concern: the last one that came of those
the score is made of. They add up to the latency. Instants are wall clocks of three parties (the
producer or the broker, the worker, the combiner): clocks that differ show in `to_worker` and
`to_combiner`, which may even be negative then, and nowhere else.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STAGES = ("to_worker_ms", "queue_ms", "model_ms", "to_combiner_ms", "combiner_ms")


def stages(
    event_ms: Floats,
    sent_ms: Floats,
    queue_ms: Floats,
    model_ms: Floats,
    arrived_ms: Floats,
    scored_ms: Floats,
) -> Floats:
    """float64[..., 5], milliseconds in each of `STAGES`; all arguments of one shape.

    Args:
        event_ms: timestamp of the input record.
        sent_ms: timestamp of the predictions record.
        queue_ms: from the fetch to the model call, of the event in the frame that waited longest.
            No other event can have waited longer than it has been there: what is more than that
            is taken off.
        model_ms: time of the model call.
        arrived_ms: when the combiner took the answer in.
        scored_ms: when the score was made.
    """
    model = np.minimum(model_ms, np.maximum(sent_ms - event_ms, 0.0))
    before = sent_ms - model - event_ms
    queue = np.minimum(queue_ms, np.maximum(before, 0.0))
    found: Floats = np.stack(
        [before - queue, queue, model, arrived_ms - sent_ms, scored_ms - arrived_ms], axis=-1
    )
    return found
