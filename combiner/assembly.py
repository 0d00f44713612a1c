"""From settings and a bundle to a combiner: which columns, weights, rungs, strategy."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from combiner.calibration import Calibrator
from combiner.cascade import Cascade, CascadeRule, UncertainScore
from combiner.catalogue import strategy_named
from combiner.core import Combiner
from combiner.decision import Decider, DecisionConfig, Recall
from combiner.encoding import Names, ScoreEncoder
from combiner.fallback import Ladder
from combiner.health import HealthConfig
from combiner.intake import Member
from combiner.limits import JoinConfig
from combiner.outcome import Outcome
from combiner.quorum import MONOTONE, CertainLabel, Quorum, ShareQuorum
from combiner.refinement import Refinement
from combiner.refining import (
    NO_KNOWLEDGE,
    Knowledge,
    chosen_quorum,
    facts_wanted,
    refinement_of,
    threshold_of,
)
from combiner.strategies.protocol import Ingredients, Strategy
from combiner.window import EventBlock, block_of
from registry.manifest import Manifest, Task
from streams.columns import Columns
from streams.errors import ConfigurationError
from streams.headers import HeaderFilter
from streams.instants import NS_PER_MS
from streams.mapping import decoder_of
from streams.settings import HealthSettings, Settings

MS_PER_S = 1000


def members_of(settings: Settings, manifest: Manifest) -> list[Member]:
    """The columns of the join, in the order of the configuration.

    Raises:
        ConfigurationError: a model is neither in the bundle, nor a callable, nor external.
    """
    versions = {model.name: model.version for model in manifest.models}
    members = []
    for place, model in enumerate(settings.models):
        own = model.callable or model.external or model.remote
        if model.name not in versions and not own:
            raise ConfigurationError(
                f"models.{place}.name",
                f"no model `{model.name}` in the bundle; expected one of {', '.join(versions)}, "
                "or a `callable`, `remote`, or `external = true`",
            )
        version = model.stated_version or versions.get(model.name, "")
        low, high = model.limits(probabilities=manifest.task != "regression")
        members.append(
            Member(model.name, version, low, high, reserve=model.reserve, columns=manifest.columns)
        )
    return members


def strategy_of(
    settings: Settings, manifest: Manifest, knowledge: Knowledge = NO_KNOWLEDGE
) -> Strategy:
    """The configured strategy.

    Raises:
        ConfigurationError: it is not defined for the ensemble's task, or lacks something in the
            bundle.
    """
    models, combiner = settings.models, settings.combiner
    ingredients = Ingredients(
        models=[model.name for model in models],
        reserves=np.array([model.reserve for model in models], dtype=np.bool_),
        weights=np.array([model.weight for model in models]),
        threshold=threshold_of(settings, knowledge.certainty),
        trim_share=combiner.trim_share,
        manifest=manifest,
    )
    return strategy_named(combiner.strategy, ingredients)


def quorum_of(
    settings: Settings,
    members: Sequence[Member],
    strategy: Strategy,
    calibrator: Calibrator,
    task: Task = "binary",
) -> Quorum | None:
    """Who need not be waited for; None waits for all.

    Raises:
        ConfigurationError: it cannot be told with this strategy, or does not fit the ladder.
    """
    tuning, fallback = settings.combiner, settings.fallback
    if tuning.quorum == "all":
        return None
    if "partial" not in fallback.ladder:
        raise ConfigurationError(
            "combiner.quorum",
            f"`{tuning.quorum}` without the rung `partial`; expected it in fallback.ladder",
        )
    weights = np.array([model.weight for model in settings.models])
    counted = ~np.array([member.reserve for member in members], dtype=np.bool_)
    if tuning.quorum == "share":
        return ShareQuorum(weights, tuning.quorum_share, counted, fallback.minimum_members)
    if task != "binary":
        raise ConfigurationError(
            "combiner.quorum",
            f"whether a label is certain cannot be told for {task}; expected the quorum "
            '"share" or "all"',
        )
    if strategy.name not in MONOTONE:
        raise ConfigurationError(
            "combiner.quorum",
            f"whether a label is certain cannot be told with the strategy `{strategy.name}`; "
            f'expected one of {", ".join(sorted(MONOTONE))}, or the quorum "share"',
        )
    ends = calibrator.apply(
        np.array(
            [
                [-np.inf if member.minimum is None else member.minimum for member in members],
                [np.inf if member.maximum is None else member.maximum for member in members],
            ]
        )[:, :, None]
    )[:, counted]
    if not np.isfinite(ends).all():
        endless = [m.name for m in members if m.minimum is None or m.maximum is None]
        raise ConfigurationError(
            "combiner.quorum",
            f"the model `{endless[0]}` may answer anything, so no label is certain; expected "
            "`minimum` and `maximum` for it",
        )
    return CertainLabel(
        strategy, calibrator, counted, ends.min(), ends.max(), fallback.minimum_members
    )


def cascade_of(
    settings: Settings,
    ladder: Ladder,
    calibrator: Calibrator,
    strategy: Strategy,
    refinement: Refinement,
    task: Task = "binary",
) -> Cascade | None:
    """Who is asked only where the others are uncertain; None is nobody.

    Raises:
        ConfigurationError: it is not defined for the task.
    """
    wanted = settings.cascade
    if not wanted.on:
        return None
    if task == "regression":
        raise ConfigurationError(
            "cascade.heavy",
            "of an amount it cannot be told from what on it is uncertain; expected no cascade for "
            "regression",
        )
    limit = np.inf if wanted.max_dispersion is None else wanted.max_dispersion
    heavy = np.array([model.name in wanted.heavy for model in settings.models], dtype=np.bool_)
    rule = CascadeRule(wanted.low, wanted.high, limit)
    return UncertainScore(rule, heavy, ladder, calibrator, strategy, refinement)


def prior_of(settings: Settings, manifest: Manifest) -> Sequence[float]:
    """The numbers of the score of which nothing is known.

    Raises:
        ConfigurationError: the configured one cannot be one.
    """
    prior = settings.fallback.prior
    if prior is None:
        return manifest.prior
    if manifest.task == "multiclass":
        raise ConfigurationError(
            "fallback.prior", "of several classes it is the share of each; expected no such setting"
        )
    if manifest.task == "binary" and not 0.0 <= prior <= 1.0:
        raise ConfigurationError("fallback.prior", f"{prior:g}; expected a number from 0 to 1")
    return (prior,)


def _health_of(health: HealthSettings) -> HealthConfig:
    return HealthConfig(
        health.window_ms * NS_PER_MS,
        health.degraded_share,
        health.failed_share,
        health.minimum_events,
        health.recovered_events,
    )


def block_maker(settings: Settings, manifest: Manifest) -> Callable[[Columns], EventBlock]:
    """What makes blocks of fetched records: ids, times, what is bad, and headers to pass on.

    For a cascade the events are kept whole: they may have to be put out again.
    """
    wanted = facts_wanted(settings)
    features = wanted is not None and wanted.features
    decoder = decoder_of(manifest.schema, settings.event, features=features)
    passing = HeaderFilter(settings.event.pass_headers)
    return partial(block_of, decoder, passing=passing, wanted=wanted, whole=settings.cascade.on)


def combiner_of(
    settings: Settings,
    manifest: Manifest,
    ensemble: str,
    recall: Recall,
    now_ns: int,
    knowledge: Knowledge = NO_KNOWLEDGE,
) -> Combiner:
    """The whole combiner.

    Args:
        settings: the configuration.
        manifest: the bundle's.
        ensemble: `name@version`.
        recall: see `combiner.decision.Decider`.
        now_ns: monotonic time.
        knowledge: what the bundle knows beside its manifest.

    Raises:
        ConfigurationError: settings and bundle do not fit together.
    """
    fallback, tuning, members = settings.fallback, settings.combiner, members_of(settings, manifest)
    names = [member.name for member in members]
    reserves = np.array([member.reserve for member in members], dtype=np.bool_)
    outcome = Outcome(manifest.task, manifest.classes)
    calibrator = Calibrator(names, manifest.calibrations)
    strategy = strategy_of(settings, manifest, knowledge)
    refinement = refinement_of(settings, manifest, knowledge)
    ladder = Ladder(reserves, frozenset(fallback.ladder), fallback.minimum_members)
    decider = Decider(
        DecisionConfig(
            np.array([model.weight for model in settings.models]),
            prior_of(settings, manifest),
            threshold_of(settings, knowledge.certainty),
            fallback.cached_max_age_s * MS_PER_S, tuning.explain, outcome, settings.cascade.on,
        ),
        ladder, calibrator, strategy, recall, refinement,
    )  # fmt: skip
    return Combiner(
        members,
        JoinConfig(
            members=len(members),
            deadline_ns=tuning.deadline_ms * NS_PER_MS,
            stall_ns=tuning.stall_ms * NS_PER_MS,
            catch_up_limit_ns=max(tuning.catch_up_limit_ms, tuning.deadline_ms) * NS_PER_MS,
            patient_until_ns=now_ns + tuning.start_up_ms * NS_PER_MS,
            in_order=tuning.order == "partition",
            columns=outcome.columns,
            quorum=chosen_quorum(settings, refinement, ~reserves)
            or quorum_of(settings, members, strategy, calibrator, manifest.task),
            stamped=tuning.explain,
            cascade=cascade_of(settings, ladder, calibrator, strategy, refinement, manifest.task),
        ),
        _health_of(settings.health),
        decider,
        ScoreEncoder(Names(ensemble, names, outcome), reserves, explain=tuning.explain),
        ensemble,
        now_ns,
        corrections=bool(settings.topics.corrections),
    )
