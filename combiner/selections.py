"""The selection that a configuration asks for, made of what the bundle knows of the members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from combiner.selection.constrained_subset import ConstrainedSubset, Constraints, Members
from combiner.selection.knora_eliminate import KnoraEliminate
from combiner.selection.knora_union import KnoraUnion
from combiner.selection.neighbours import Neighbours
from combiner.selection.overall_local_accuracy import OverallLocalAccuracy
from combiner.selection.protocol import Context, Selection
from combiner.selection.region_best import RegionBest
from combiner.selection.segment_weights import (
    HOURS_PER_DAY,
    FeatureRanges,
    FeatureValues,
    HeaderValues,
    Hours,
    Segments,
    SegmentWeights,
)
from combiner.selection.space import FeatureSpace
from registry.competence import COMPETENCE_NAME, Competence
from streams.errors import ConfigurationError
from streams.features import FeatureSchema

Floats = NDArray[np.float64]

PLACE = "selection"
NEIGHBOUR_RULES = {rule.name: rule for rule in (OverallLocalAccuracy, KnoraEliminate, KnoraUnion)}
NAMES = (*NEIGHBOUR_RULES, RegionBest.name, SegmentWeights.name, ConstrainedSubset.name)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How events are told apart, and who counts how much where.

    Attributes:
        by: `feature:NAME`, `header:NAME` or `hour`.
        edges: of a number: where one range ends and the next begins; of `hour`: where a part of
            the day begins.
        values: of a category or a header: one segment each.
        weights: model → weight, a segment each, and one more for events of no segment. Empty:
            they are learned, which needs a feature.
    """

    by: str
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    weights: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """What a configuration says of a selection; each method reads what concerns it."""

    method: str
    neighbours: int = 7
    best: int = 2
    max_models: int = 3
    latency_budget_ms: float = np.inf
    min_diversity: float = 0.0
    segments: Segmentation | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What a selection is made of.

    Attributes:
        models: the columns, in order.
        reserves: bool[M], who is never selected.
        latency_ms: float64[M], how long each takes; 0 where it is not known.
        schema: the features.
        competence: see `registry.competence`; None if the bundle has none.
        calibrated: float64[V, S, K], the answers in `competence` as probabilities; empty without.
        classify: whether labels are classes.
    """

    models: Sequence[str]
    reserves: NDArray[np.bool_]
    latency_ms: Floats
    schema: FeatureSchema
    competence: Competence | None
    calibrated: Floats
    classify: bool = True


def selection_of(options: SelectionOptions, known: Known) -> Selection:
    """The selection.

    Raises:
        ConfigurationError: the method does not exist, or does not fit the bundle or the models.
    """
    if options.method == SegmentWeights.name:
        return _segment_weights(options, known)
    if options.method not in NAMES:
        raise ConfigurationError(
            f"{PLACE}.method", f"{options.method!r}; expected one of {', '.join(NAMES)}"
        )
    competence = _competence(known, options.method)
    columns = _columns(known, competence)
    space = _space(known.schema, competence)
    if options.method == RegionBest.name:
        losses = _spread(competence.region_losses.array, columns, known, np.inf)
        return RegionBest(space, competence.centres.array, losses, options.best)
    if options.method == ConstrainedSubset.name:
        return _constrained(options, known, competence, columns)
    if not known.classify:
        raise ConfigurationError(
            f"{PLACE}.method", f"{options.method} judges labels, and regression has none"
        )
    rows = competence.rows.array
    if options.neighbours > len(rows):
        raise ConfigurationError(
            f"{PLACE}.neighbours",
            f"{options.neighbours} of {len(rows)} validation rows; expected at most all",
        )
    near = Neighbours(space.place(rows), options.neighbours)
    hits = _spread(competence.hits(known.calibrated), columns, known, fill=False)
    return NEIGHBOUR_RULES[options.method](space, near, hits.astype(np.bool_))


def _competence(known: Known, method: str) -> Competence:
    if known.competence is None:
        raise ConfigurationError(
            f"{PLACE}.method", f"{method} needs a bundle with {COMPETENCE_NAME}; train it again"
        )
    return known.competence


def _columns(known: Known, competence: Competence) -> list[int]:
    """The column of each trained member. Raises ConfigurationError if a member was not trained."""
    for model, reserve in zip(known.models, known.reserves.tolist(), strict=True):
        if not reserve and model not in competence.members:
            raise ConfigurationError(
                f"{PLACE}.method",
                f"nothing is known of the model `{model}`, which is not of the bundle; "
                "expected `segment_weights`, or `reserve = true` for it",
            )
    return [known.models.index(name) for name in competence.members if name in known.models]


def _spread(
    table: NDArray[np.generic], columns: list[int], known: Known, fill: float
) -> NDArray[np.float64]:
    """A table of trained members as one of all columns of the join."""
    assert known.competence is not None
    trained = [known.competence.members.index(known.models[column]) for column in columns]
    spread = np.full((len(table), len(known.models)), float(fill))
    spread[:, columns] = table[:, trained]
    return spread


def _space(schema: FeatureSchema, competence: Competence) -> FeatureSpace:
    sizes = [len(f.vocabulary) if f.kind == "category" else 0 for f in schema.features]
    return FeatureSpace(competence.means, competence.scales, sizes)


def _constrained(
    options: SelectionOptions, known: Known, competence: Competence, columns: list[int]
) -> ConstrainedSubset:
    trained = [competence.members.index(known.models[column]) for column in columns]
    size = len(known.models)
    grid, own = np.ix_(columns, columns), np.ix_(trained, trained)
    # A reserve is the worst there is, so that it is never chosen.
    products = np.diag(np.full(size, np.inf))
    disagreement = np.zeros((size, size))
    products[grid] = competence.products.array[own]
    disagreement[grid] = competence.disagreement.array[own]
    latency_ms = np.where(known.reserves, np.inf, known.latency_ms)
    limits = Constraints(options.max_models, options.latency_budget_ms, options.min_diversity)
    return ConstrainedSubset(Members(products, disagreement, latency_ms), limits)


# -- segments ------------------------------------------------------------------------------------


def _segment_weights(options: SelectionOptions, known: Known) -> SegmentWeights:
    place = PLACE
    if options.segments is None:
        raise ConfigurationError(f"{place}.by", f"missing; {SegmentWeights.name} needs it")
    given = options.segments
    segments = _segments(given, known.schema, place)
    if not given.weights:
        return SegmentWeights(segments, _learned(segments, known, place))
    if len(given.weights) != segments.count + 1:
        raise ConfigurationError(
            f"{place}.weights",
            f"{len(given.weights)} tables; expected {segments.count + 1}: one for each of the "
            f"{segments.count} segments, and one for events of none",
        )
    weights = np.zeros((segments.count + 1, len(known.models)))
    for number, table in enumerate(given.weights):
        for model, weight in table.items():
            if model not in known.models or weight < 0:
                raise ConfigurationError(
                    f"{place}.weights.{number}.{model}",
                    f"{weight}; expected a weight from 0 on for one of {', '.join(known.models)}",
                )
            weights[number, known.models.index(model)] = weight
    return SegmentWeights(segments, weights)


def _segments(given: Segmentation, schema: FeatureSchema, place: str) -> Segments:
    kind, _, name = given.by.partition(":")
    edges, values = given.edges, given.values
    if list(edges) != sorted(set(edges)):
        raise ConfigurationError(f"{place}.edges", f"{list(edges)}; expected ascending numbers")
    if kind == "header" and name and values:
        return HeaderValues(name, values)
    if given.by == "hour" and edges:
        if not set(edges) <= set(range(HOURS_PER_DAY)):
            raise ConfigurationError(f"{place}.edges", f"{list(edges)}; expected hours, 0 to 23")
        return Hours([int(edge) for edge in edges])
    if kind == "feature" and name in schema.names:
        column = schema.names.index(name)
        feature = schema.features[column]
        if feature.kind == "category" and values:
            unknown = [value for value in values if value not in feature.vocabulary]
            if unknown:
                raise ConfigurationError(
                    f"{place}.values", f"{unknown[0]!r} is no value of `{name}` in the bundle"
                )
            return FeatureValues(column, [feature.vocabulary.index(value) for value in values])
        if feature.kind != "category" and edges:
            return FeatureRanges(column, edges)
    raise ConfigurationError(
        f"{place}.by",
        f"{given.by!r} with {len(edges)} edges and {len(values)} values; expected "
        "`feature:NAME` of the bundle with edges (a number) or values (a category), "
        "`header:NAME` with values, or `hour` with edges",
    )


def _learned(segments: Segments, known: Known, place: str) -> Floats:
    """float64[S + 1, M]: how much better than the mean label each member is, by segment.

    That is its skill, one less its squared error divided by that of the mean label, and 0 where
    it is worse. A segment without validation rows, and events of no segment, have that of all.
    """
    if segments.headers or isinstance(segments, Hours):
        raise ConfigurationError(f"{place}.weights", "missing; only for features they are learned")
    competence = _competence(known, SegmentWeights.name)
    columns = _columns(known, competence)
    rows, labels = competence.rows.array, competence.labels.array
    context = Context(np.zeros(len(rows), dtype=np.int64), {})
    places = segments.of(rows, context)
    weights = np.zeros((segments.count + 1, len(competence.members)))
    for number in range(segments.count + 1):
        inside = places == number
        if number == segments.count or not inside.any():
            inside = np.ones(len(rows), dtype=np.bool_)
        weights[number] = _skill(known.calibrated[inside], labels[inside], classify=known.classify)
    return _spread(weights, columns, known, 0.0)


def _skill(answers: Floats, labels: Floats, *, classify: bool) -> Floats:
    columns = answers.shape[2]
    truth = labels[:, None]
    if classify and columns > 1:
        truth = (truth == np.arange(columns)).astype(np.float64)
    losses = np.square(answers - truth[:, None, :]).sum(axis=2).mean(axis=0)
    prior = np.square(truth - truth.mean(axis=0)).sum(axis=1).mean()
    skill: Floats = np.maximum(1.0 - losses / prior, 0.0) if prior > 0 else np.ones(len(losses))
    return skill
