"""What an evaluation found, as drawings (SVG); needs matplotlib, the extra `report`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lab.evaluation import COVERAGE, METRICS, Evaluation
from lab.report import (
    BASELINE,
    TITLES,
    Results,
    cascades,
    coverages,
    difference,
    dropped,
    verdict,
    whole,
)
from streams.errors import DataError

COLOURS = {"better": "#1a7f37", "worse": "#c62828", "": "#57606a"}
CURVES = (BASELINE, "mean", "stacking", "majority_vote")
BINS = 15


def draw(evaluation: Evaluation, directory: Path) -> list[Path]:
    """Write all drawings into a directory.

    Raises:
        DataError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise DataError(
            "plots need the library 'matplotlib'; install it with the extra `report` of this "
            "product, or leave them out with --no-plots"
        ) from error
    matplotlib.use("svg")
    # The same figures give the same bytes.
    settings: Any = {"svg.hashsalt": "stream-ensemble", "font.size": 9.0, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        found = [
            _differences(evaluation, directory / "evaluation-differences.svg"),
            _reliability(evaluation, directory / "evaluation-reliability.svg"),
            _coverage(evaluation, directory / "evaluation-coverage.svg"),
        ]
        if evaluation.options.cheap:
            found.append(_cascade(evaluation, directory / "evaluation-cascade.svg"))
    return found


@contextmanager
def _figure(path: Path, columns: int, height: float, width: float = 9.0) -> Iterator[Any]:
    """Axes side by side, written when all is drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure.subplots(1, columns, squeeze=False)[0]
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _differences(evaluation: Evaluation, path: Path) -> Path:
    """Every way against the best single member, with intervals."""
    names = [n for n in evaluation.folds[0].dropped if n != BASELINE]
    shown: list[tuple[str, Results, str]] = [
        ("auc", whole, "all members"),
        ("log_loss", whole, "all members"),
        ("auc", dropped, "members dropped"),
    ]
    with _figure(path, len(shown), 0.2 * len(names) + 1.2, 11.0) as axes:
        for number, (metric, results, title) in enumerate(shown):
            axis = axes[number]
            reach = []
            for place, name in enumerate(names):
                found = difference(evaluation, results, name, metric)
                colour = COLOURS[verdict(found, metric)]
                axis.plot([found.low, found.high], [place, place], color=colour, linewidth=1.5)
                axis.plot([found.mean], [place], "o", color=colour, markersize=3.5)
                reach.append(max(abs(found.low), abs(found.high)))
            # Votes give no probabilities: their log-loss would press all others together.
            limit = 1.1 * float(np.quantile(reach, 0.85))
            axis.set_xlim(-limit, limit)
            axis.axvline(0.0, color="black", linewidth=0.8)
            axis.set_yticks(range(len(names)), names if number == 0 else [])
            axis.invert_yaxis()
            axis.set_title(f"{TITLES[metric]} less that of {BASELINE}\n{title}", fontsize=9)
            axis.grid(axis="x", alpha=0.3)
    return path


def _reliability(evaluation: Evaluation, path: Path) -> Path:
    """How often it is true what some ways say, over the first repeat's folds."""
    folds = evaluation.folds[: evaluation.options.folds]
    labels = np.concatenate([fold.labels for fold in folds])
    with _figure(path, 1, 4.2, 5.0) as axes:
        axis = axes[0]
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        for name in CURVES:
            scores = np.concatenate([fold.scores[name] for fold in folds])
            bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
            count = np.bincount(bins, minlength=BINS)
            there = count > 0
            said = np.bincount(bins, weights=scores, minlength=BINS)[there] / count[there]
            true = np.bincount(bins, weights=labels, minlength=BINS)[there] / count[there]
            axis.plot(said, true, marker="o", markersize=3, linewidth=1.2, label=name)
        axis.set_xlabel("score")
        axis.set_ylabel("share of positives")
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    return path


def _coverage(evaluation: Evaluation, path: Path) -> Path:
    """Coverage and size of prediction sets by how many members are missing."""
    found = list(coverages(evaluation))
    with _figure(path, 2, 3.2) as axes:
        missing = sorted({each[1] for each in found})
        for method in dict.fromkeys(method for method, *_ in found):
            own = [each for each in found if each[0] == method]
            covered = [each[2].mean() for each in own]
            error = [2 * each[2].std(ddof=1) / np.sqrt(len(each[2])) for each in own]
            axes[0].errorbar(missing, covered, error, marker="o", capsize=3, label=method)
            axes[1].plot(missing, [each[3].mean() for each in own], marker="o", label=method)
        axes[0].axhline(COVERAGE, color="black", linewidth=0.8)
        axes[0].set_ylim(COVERAGE - 0.02, COVERAGE + 0.02)
        axes[0].set_ylabel("share of sets that hold the truth")
        axes[1].set_ylabel("labels in a set")
        for axis in axes:
            axis.set_xlabel("members missing")
            axis.set_xticks(missing)
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
    return path


def _cascade(evaluation: Evaluation, path: Path) -> Path:
    """Quality of a cascade by the share of events that need the heavy models."""
    found = [each for _, each in cascades(evaluation)]
    shares = [each["escalated"].mean() for each in found]
    shown = [metric for metric in METRICS if metric in {"auc", "log_loss"}]
    with _figure(path, len(shown), 3.2) as axes:
        for axis, metric in zip(axes, shown, strict=True):
            axis.plot(shares, [each[metric].mean() for each in found], marker="o")
            axis.set_xlabel("share of events that need the heavy models")
            axis.set_ylabel(TITLES[metric])
            axis.grid(alpha=0.3)
    return path
