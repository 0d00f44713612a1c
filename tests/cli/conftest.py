"""A small bundle, trained once."""

from pathlib import Path

import numpy as np
import pytest

from lab.train import train_bundle
from registry.bundle import LoadedBundle

ROWS = 400


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file with an id, a number, a gappy number, a category and a label."""
    random = np.random.default_rng(7)
    amounts = random.normal(100, 30, ROWS)
    ages = random.integers(18, 90, ROWS)
    colours = random.choice(["red", "green", "blue"], ROWS)
    labels = (amounts + 20 * (colours == "red") + random.normal(0, 20, ROWS) > 110).astype(int)
    lines = ["id,amount,age,colour,label"]
    for row in range(ROWS):
        age = "" if row % 10 == 0 else ages[row]
        lines.append(f"e{row},{amounts[row]:.3f},{age},{colours[row]},{labels[row]}")
    path = tmp_path_factory.mktemp("data") / "data.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def bundle(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    """Two models that train in no time."""
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    members = ["logistic_regression", "lightgbm"]
    return train_bundle(data_file, "label", "id", out, folds=2, members=members).bundle
