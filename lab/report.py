"""What an evaluation found, as a page: tables in Markdown, honest about what is not certain."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lab.comparison import CONFIDENCE, Interval, corrected_interval
from lab.evaluation import COVERAGE, METRICS, Evaluation, FoldResult

Floats = NDArray[np.float64]

BASELINE = "best_single"
MINUS = "\N{MINUS SIGN}"
BETTER_IS_MORE = {"auc": True, "log_loss": False, "brier": False, "ece": False}
TITLES = {"auc": "AUC", "log_loss": "log-loss", "brier": "Brier", "ece": "ECE"}

Results = Callable[[FoldResult], Mapping[str, Mapping[str, float]]]


def whole(fold: FoldResult) -> Mapping[str, Mapping[str, float]]:
    """With all members."""
    return fold.whole


def dropped(fold: FoldResult) -> Mapping[str, Mapping[str, float]]:
    """With members dropped at random."""
    return fold.dropped


def values(evaluation: Evaluation, results: Results, name: str, metric: str) -> Floats:
    """float64[J]: a metric of a contender, by fold."""
    return np.array([results(fold)[name][metric] for fold in evaluation.folds])


def difference(evaluation: Evaluation, results: Results, name: str, metric: str) -> Interval:
    """How much more a contender has of a metric than the best single member, fold by fold."""
    own = values(evaluation, results, name, metric)
    single = values(evaluation, results, BASELINE, metric)
    return corrected_interval(own - single, 1.0 / (evaluation.options.folds - 1))


def verdict(found: Interval, metric: str) -> str:
    """`better`, `worse`, or nothing where the interval holds 0."""
    if found.low <= 0.0 <= found.high:
        return ""
    return "better" if (found.mean > 0) == BETTER_IS_MORE[metric] else "worse"


def markdown(evaluation: Evaluation) -> str:
    """The whole page."""
    parts = [_head(evaluation), _table(evaluation, whole, "With all members")]
    drop = evaluation.options.drop
    parts.append(_table(evaluation, dropped, f"With each member missing in {drop:.0%} of events"))
    parts += [_coverage(evaluation), _cascade(evaluation)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(evaluation: Evaluation) -> str:
    options = evaluation.options
    trainings = len(evaluation.folds)
    return (
        f"`{evaluation.source}`: {evaluation.rows:,} rows, {evaluation.positive_share:.1%} "
        f"positive; members {', '.join(evaluation.members)}. {options.repeats} times "
        f"{options.folds}-fold stratified cross-validation, seed {options.seed}: {trainings} "
        f"trainings of the whole ensemble.\n\n"
        f"In brackets the difference to `{BASELINE}` (the member that was best in training), "
        f"fold by fold, ± half the {CONFIDENCE:.0%} interval of the corrected resampled t test "
        "(Nadeau & Bengio, 2003), without a correction for many comparisons. **Bold** is better, "
        "_italic_ is worse, where the interval leaves out 0. For AUC more is better, for the "
        "others less."
    )


def _table(evaluation: Evaluation, results: Results, title: str) -> str:
    first = evaluation.folds[0]
    lines = [
        f"**{title}**",
        "",
        "| kind | way | " + " | ".join(TITLES[metric] for metric in METRICS) + " |",
        "| --- | --- |" + " --- |" * len(METRICS),
    ]
    for name in results(first):
        cells = [_cell(evaluation, results, name, metric) for metric in METRICS]
        lines.append(f"| {first.kinds[name]} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(evaluation: Evaluation, results: Results, name: str, metric: str) -> str:
    mean = values(evaluation, results, name, metric).mean()
    if name == BASELINE:
        return f"{mean:.4f}"
    found = difference(evaluation, results, name, metric)
    text = f"{mean:.4f} ({found.mean:+.4f} ± {found.high - found.mean:.4f})"
    mark = {"better": "**", "worse": "_", "": ""}[verdict(found, metric)]
    return f"{mark}{text}{mark}".replace("-", MINUS)


def coverages(evaluation: Evaluation) -> Iterator[tuple[str, int, Floats, Floats]]:
    """Method, how many members are missing, and float64[J] of coverages and of mean sizes."""
    for method, missing in evaluation.folds[0].coverage:
        pairs = np.array([fold.coverage[method, missing] for fold in evaluation.folds])
        yield method, missing, pairs[:, 0], pairs[:, 1]


def _coverage(evaluation: Evaluation) -> str:
    lines = [
        f"**Prediction sets of stacking, promised coverage {COVERAGE:.0%}**",
        "",
        "Mean over the test folds ± its standard error.",
        "",
        "| method | members missing | coverage | labels in a set |",
        "| --- | --- | --- | --- |",
    ]
    for method, missing, covered, sizes in coverages(evaluation):
        error = covered.std(ddof=1) / np.sqrt(len(covered))
        lines.append(
            f"| `{method}` | {missing} | {covered.mean():.2%} ± {error:.2%} | {sizes.mean():.3f} |"
        )
    return "\n".join(lines)


def cascades(evaluation: Evaluation) -> Iterator[tuple[float, dict[str, Floats]]]:
    """Wanted share, and float64[J] of the share escalated and of each metric."""
    for wanted in evaluation.folds[0].cascade:
        folds = [fold.cascade[wanted] for fold in evaluation.folds]
        yield wanted, {name: np.array([fold[name] for fold in folds]) for name in folds[0]}


def _cascade(evaluation: Evaluation) -> str:
    if not evaluation.options.cheap:
        return ""
    full = {name: found for wanted, each in cascades(evaluation) if wanted == 1.0
            for name, found in each.items()}  # fmt: skip
    ratio = 1.0 / (evaluation.options.folds - 1)
    cheap = " and ".join(evaluation.options.cheap)
    lines = [
        f"**Cascade: {cheap} first, the others for the uncertain events**",
        "",
        "In brackets the difference to asking all for all events, ± half the corrected interval.",
        "",
        "| events that needed the heavy models | "
        + " | ".join(TITLES[metric] for metric in METRICS)
        + " |",
        "| --- |" + " --- |" * len(METRICS),
    ]
    for wanted, each in cascades(evaluation):
        cells = []
        for metric in METRICS:
            mean = each[metric].mean()
            if wanted == 1.0:
                cells.append(f"{mean:.4f}")
                continue
            found = corrected_interval(each[metric] - full[metric], ratio)
            text = f"{mean:.4f} ({found.mean:+.4f} ± {found.high - found.mean:.4f})"
            cells.append(text.replace("-", MINUS))
        lines.append(f"| {each['escalated'].mean():.1%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
