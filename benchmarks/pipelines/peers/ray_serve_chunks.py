"""Ray Serve: the same with some hundred events in a request, which spares most of its price."""

import asyncio

import numpy as np
from members import Ensemble
from ray import serve
from ray_serve import SMALL, run

CHUNK = 500


@serve.deployment(**SMALL)
class Member:
    """One model; requests that wait are one batch."""

    def __init__(self, given, place):
        self.model = Ensemble(given).models[place]

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0)
    async def __call__(self, matrices):
        """Answers to some chunks."""
        ends = np.cumsum([len(matrix) for matrix in matrices])
        return np.split(self.model.predict(np.concatenate(matrices)), ends[:-1])


async def in_chunks(mean, matrix):
    """A request for each chunk, all under way at once."""
    chunks = [matrix[start : start + CHUNK] for start in range(0, len(matrix), CHUNK)]
    return np.concatenate(await asyncio.gather(*(mean.remote(chunk) for chunk in chunks)))


if __name__ == "__main__":
    asyncio.run(run(Member, in_chunks, 4 * CHUNK))
