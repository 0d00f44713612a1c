"""Asks a model server as a worker does, and compares with what the model answered by itself."""

import sys
from pathlib import Path

import numpy as np

from streams.settings import RemoteSettings
from workers.adapters.open_inference import Remote, RemoteModel


def main(url: str, folder: Path) -> int:
    """Exit code 1 if an answer differs."""
    expected = np.load(folder / "expected.npz")
    server = RemoteSettings(
        url=url, model="cells", version="1", output="predict_proba", datatype="FP64", max_rows=100
    )
    model = RemoteModel(Remote(server=server), "cells", "1", 0.0, 1.0)
    answers = np.asarray(model.predict(expected["rows"]))
    difference = float(np.abs(answers - expected["scores"]).max())
    print(f"{len(answers)} rows, largest difference {difference:g}")
    return int(difference > 1e-9)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
