"""Trains a small model and writes it as MLServer wants it; runs where MLServer is installed."""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAME = "cells"


def main(folder: Path) -> None:
    """Write the model, its settings, the server's beside them, and what the model answers."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, labels = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    joblib.dump(model, folder / "model.joblib")
    settings = {
        "name": NAME,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "1"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    # Its own pool of processes did not start with Python 3.11.7.
    server = {"parallel_workers": 0, "host": "127.0.0.1"}
    (folder.parent / "settings.json").write_text(json.dumps(server))
    np.savez(folder / "expected.npz", rows=rows, scores=model.predict_proba(rows)[:, 1])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
