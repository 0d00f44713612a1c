"""Several classes, amounts and yes or no, each with choices or promises, run as a user runs them.

What comes out is held against the models themselves, against what comes out for the same row at
another time, against the truth, and against a replay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from chaos.reader import places_of, reading, wait_for
from chaos.verdict import Verdict
from cli.configuration import load_settings
from lab.certainty import CertaintyOptions
from lab.table import encode, events, read_table
from lab.targets import target_of
from lab.thresholds import criterion_of
from lab.train import train_bundle
from registry.bundle import LoadedBundle, read_certainty
from replay.bounds import Bound
from replay.output import ScoreOutput
from replay.run import Replay, Wanted
from streams.embedded import EmbeddedKafka
from streams.records import CorrectionRecord
from streams.settings import ModelSettings
from tests.cli.cli_kit import running
from tests.conftest import Topics
from tests.lab.test_train_tasks import write
from tests.pipeline_kit import PARTITIONS, Pipeline, await_running, pipeline_config, worker_of
from workers.loading import load_models

LABEL = "y"
DEADLINE_MS = 800
# Predictions are published with six decimals.
ROUNDED = 2e-6
# So few that the model that is missing does not fail by it.
FEW = 8

Record = dict[str, Any]


@dataclass
class Case:
    """An ensemble that runs, and rows that it was not trained on."""

    bundle: LoadedBundle
    config: Path
    pipeline: Pipeline
    members: Sequence[str]
    matrix: np.ndarray
    truth: np.ndarray
    slow: psutil.Process

    def score(self, count: int) -> list[Record]:
        """The scores of the next rows, in their order."""
        found = {outcome.id: outcome.record for outcome in self.pipeline.score(count)}
        return [found[id_] for id_ in sorted(found, key=lambda each: int(each.split("-")[1]))]

    def answers(self) -> dict[str, np.ndarray]:
        """What each model says of the rows when it is asked here."""
        settings = [ModelSettings(name=m, minimum=None, maximum=None) for m in self.members]
        models = load_models(settings, self.bundle)
        return {model.name: model.predict(self.matrix) for model in models}

    def replayed_alike(self) -> None:
        """Decide everything again from the topics, and find what was published."""
        settings = load_settings(self.config)
        wanted = Wanted(Bound(), Bound(at_end=True), as_recorded=True, compare=True)
        output = ScoreOutput(settings, None, None)
        done = Replay(settings, self.bundle, wanted, output, lambda *_: None, Event()).run()
        agreement = done.agreement
        assert agreement is not None
        count = len(self.pipeline.acknowledged)
        assert (agreement.compared, agreement.same_score, agreement.same_rung) == (count,) * 3


class Ways:
    """Makes cases."""

    def __init__(self, folder: Path, servers: str, topics: Topics) -> None:
        self._folder, self._servers, self._topics = folder, servers, topics

    @contextmanager
    def case(
        self, file: Path, members: Sequence[str], config: str, certainty: CertaintyOptions | None
    ) -> Iterator[Case]:
        """Train, run, and at the end see that every event had one outcome."""
        held = self._folder / "held.csv"
        done = train_bundle(
            file, LABEL, None, self._folder / "bundle",
            holdout=0.5, holdout_out=held, folds=2, members=members, certainty=certainty,
        )  # fmt: skip
        bundle, table = done.bundle, read_table(held)
        config += f'\n[event]\nid = "id"\n[combiner]\ndeadline_ms = {DEADLINE_MS}\nexplain = true\n'
        config += f'strategy = "{certainty.strategy if certainty else "weighted_mean"}"\n'
        path = pipeline_config(
            self._folder, self._servers, self._topics, bundle.directory, members, config
        )
        rows = events(table, bundle.manifest.schema, exclude=(LABEL,))
        pipeline = Pipeline(self._servers, self._topics.prefix, rows, "id")
        try:
            with running("up", "-c", path) as command:
                await_running(command, members)
                yield Case(
                    bundle, path, pipeline, members,
                    encode(table, bundle.manifest.schema),
                    target_of(table, LABEL, bundle.manifest.task).truth,
                    worker_of(command, members[-1]),
                )  # fmt: skip
                assert command.terminate() == 0
            assert pipeline.verdicts() == (Verdict(), Verdict())
        finally:
            pipeline.reader.close()


@pytest.fixture
def ways(kafka: EmbeddedKafka, topics: Topics, tmp_path: Path) -> Ways:
    return Ways(tmp_path, kafka.bootstrap_servers, topics)


def used_rows(records: Sequence[Record], members: Sequence[str]) -> list[str]:
    """The mask of who made each score."""
    return ["".join("1" if name in r["models"] else "0" for name in members) for r in records]


def test_classes_with_members_chosen_by_event(ways: Ways, topics: Topics, tmp_path: Path) -> None:
    """A late answer corrects the score to what it is when all are there."""
    file = write(tmp_path / "wine.csv", load_wine(), ["barolo", "grignolino", "barbera"])
    members = ("logistic_regression", "neural_network", "lightgbm")
    with ways.case(file, members, '[selection]\nmethod = "knora_union"\n', None) as case:
        records = case.score(len(case.matrix))
        case.slow.suspend()
        partial = case.score(FEW)
        case.slow.resume()
        corrections = read_corrections(case, topics.prefix + "corrections", FEW)
        case.replayed_alike()
        answers = case.answers()
    classes = case.bundle.manifest.classes
    assert len({tuple(r["models"]) for r in records}) > 1, "not all count for every event"
    for row, record in enumerate(records):
        assert record["fallback"] == "none"
        shares = []
        for name in record["models"]:
            told = np.array([record["predictions"][name][each] for each in classes])
            np.testing.assert_allclose(told, answers[name][row], atol=ROUNDED)
            brought = np.array([record["contributions"][name][each] for each in classes])
            shares.append(brought.sum())
            np.testing.assert_allclose(brought, shares[-1] * told, atol=ROUNDED)
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
        # In sevenths: so many neighbours each has right.
        combined = sum(
            share * answers[name][row] for share, name in zip(shares, record["models"], strict=True)
        )
        scores = [record["scores"][each] for each in classes]
        np.testing.assert_allclose(scores, combined, atol=1e-5)
        assert record["label"] == classes[int(np.argmax(scores))]
        assert record["score"] == record["scores"][record["label"]]
    right = [r["label"] == classes[truth] for r, truth in zip(records, case.truth, strict=True)]
    assert np.mean(right) > 0.85
    late = {correction.id: correction for correction in corrections}
    for first, again in zip(records, partial, strict=False):
        assert again["missing"] == {"lightgbm": "late"}
        correction = late[again["id"]]
        assert correction.score_before == again["score"]
        assert (correction.score_now, correction.label_now) == (first["score"], first["label"])
    assert any(each.score_now != each.score_before for each in corrections)


def read_corrections(case: Case, topic: str, count: int) -> list[CorrectionRecord]:
    """So many of them."""
    settings = load_settings(case.config)
    consumer = reading(settings.kafka.bootstrap_servers)
    consumer.assign(places_of([topic], PARTITIONS))
    found: list[CorrectionRecord] = []

    def read() -> bool:
        found.extend(
            msgspec.json.decode(message.value(), type=CorrectionRecord)
            for message in consumer.consume(100, 0.05)
            if message.error() is None
        )
        return len(found) >= count

    wait_for(read, lambda: f"{len(found)} corrections of {count}")
    consumer.close()
    return found


def test_amounts_with_features_and_intervals(ways: Ways, tmp_path: Path) -> None:
    file = write(tmp_path / "diabetes.csv", load_diabetes(), None)
    members = ("linear_regression", "lightgbm")
    asked = CertaintyOptions(strategy="stacking_with_features", conformal="absolute", coverage=0.9)
    with ways.case(file, members, "[certainty]\npromise = true\n", asked) as case:
        records = case.score(len(case.matrix))
        case.slow.suspend()
        partial = case.score(20)
        case.slow.resume()
        case.replayed_alike()
        answers = case.answers()
    certainty = read_certainty(case.bundle)
    assert certainty is not None
    assert certainty.conformal is not None
    widths = {mask: quantile.value for mask, quantile in certainty.conformal.quantiles.items()}
    assert used_rows(records, members) == ["11"] * len(records)
    assert used_rows(partial, members) == ["10"] * len(partial)
    for row, record in [*enumerate(records), *enumerate(partial)]:
        [mask] = used_rows([record], members)
        assert record["label"] is None
        assert record["coverage"] == 0.9
        np.testing.assert_allclose(
            record["interval"],
            [record["score"] - widths[mask], record["score"] + widths[mask]],
        )
        for name in record["models"]:
            assert record["predictions"][name] == pytest.approx(answers[name][row], rel=1e-6)
    for row, record in enumerate(partial):
        without = records[row]["explanation"]["without"]["lightgbm"]
        assert record["score"] == pytest.approx(without, abs=1e-5), "as was said beforehand"
    inside = [
        low <= truth <= high
        for (low, high), truth in zip((r["interval"] for r in records), case.truth, strict=True)
    ]
    # Of 221 patients; four standard errors below nine tenths.
    assert np.mean(inside) > 0.82


def test_yes_or_no_calibrated_with_sets_and_a_threshold(ways: Ways, tmp_path: Path) -> None:
    file = write(tmp_path / "cells.csv", load_breast_cancer(), None)
    members = ("logistic_regression", "lightgbm")
    asked = CertaintyOptions(
        strategy="mean",
        calibration="platt",
        conformal="lac",
        coverage=0.9,
        threshold=criterion_of("cost:1,4"),
    )
    told = "[certainty]\ncalibrate = true\npromise = true\nthreshold = true\n"
    with ways.case(file, members, told, asked) as case:
        records = case.score(len(case.matrix))
        case.slow.suspend()
        partial = case.score(20)
        case.slow.resume()
        case.replayed_alike()
    certainty = read_certainty(case.bundle)
    assert certainty is not None
    assert certainty.conformal is not None
    assert certainty.threshold is not None
    assert used_rows(records, members) == ["11"] * len(records)
    assert used_rows(partial, members) == ["10"] * len(partial)
    for record in records + partial:
        [mask] = used_rows([record], members)
        mean = np.mean(list(record["predictions"].values()))
        fit = certainty.calibrations[mask]
        odds = np.log(mean / (1 - mean))
        calibrated = 1 / (1 + np.exp(fit.slopes[0] * odds + fit.intercepts[0]))
        assert record["score"] == pytest.approx(calibrated, abs=1e-4)
        assert record["label"] == (record["score"] >= certainty.threshold.threshold)
        limit = certainty.conformal.quantiles[mask].value
        for label, chance in ((0, 1 - mean), (1, mean)):
            if abs(1 - chance - limit) > ROUNDED:
                assert (label in record["prediction_set"]) == (1 - chance <= limit)
    inside = [
        truth in record["prediction_set"]
        for record, truth in zip(records, case.truth.tolist(), strict=True)
    ]
    # Of 285 patients; four standard errors below nine tenths.
    assert np.mean(inside) > 0.83
